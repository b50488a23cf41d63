"""`metaformer evaluate`: how well trained weights classify labelled images."""

import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from metaformer.cli.progress import image_progress
from metaformer.core.command_line import given_command
from metaformer.core.errors import ConfigError
from metaformer.core.printable import printable
from metaformer.core.records import Evaluation, Recorder
from metaformer.data.class_order import read_class_map
from metaformer.data.found import Found, choose_images
from metaformer.data.sources import find_data
from metaformer.deploy.classifier import Classifier, imagenet_names, open_classifier
from metaformer.deploy.confusion import Confusion
from metaformer.deploy.evaluation import ImageEvaluation, evaluate_images, evaluate_source
from metaformer.deploy.evaluation_record import settings_of, write_evaluation

MOST_NAMED = 10  # images that could not be read, on the screen
LARGEST_MATRIX = 12  # classes of a confusion matrix on the screen
WORST = 5


def evaluate(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = "",
    /,
    *,
    data: str,
    weights: str = "",
    split: str = "",
    class_map: Path | None = None,
    image_size: tuple[int, int] | None = None,
    crop_fraction: float | None = None,
    batch_size: int = 64,
    precision: str = "32-true",
    mirror: bool = False,
    device: str = "auto",
    threads: int | None = None,
    fast: bool = True,
    out: Path | None = None,
) -> int:
    """Measures trained weights on labelled images: top-1, top-5, loss, confusion, speed.

    Exit codes: 0 done; 1 some images could not be read (they are named and not counted), or have scores that are no
    numbers; 2 the request was wrong.

    Args:
        name: A model of the zoo; not needed where the weights say which. Or a run folder, instead of --weights.
        data: digits, cluttered-digits; a folder of class folders, Parquet files or tar shards; parquet:PATH,
            cifar10:PATH, wds:PATH; or by timm's factory torch/NAME:FOLDER, hfds/OWNER/NAME, hfids/..., tfds/...
        weights: A file of any known layout, a run folder, a URL or a hub id (hf://owner/name).
        split: Part of the data; test if there is one, else validation.
        class_map: Which of the model's classes the data's are. Text: a name a line, in the model's order. JSON: a list
            of such, or an object from a name in the data to the model's index or name.
        image_size: Side, or height and width, in pixels; the model's own if not given.
        crop_fraction: Of the resized image's side that the centre crop keeps; the model's own if not given.
        batch_size: Images at once.
        precision: 32-true, bf16-mixed or 16-mixed.
        mirror: The mean of the scores of each image and of its mirror image, for twice the time.
        device: auto, cpu, cuda, ...
        threads: That read images; one a core if not given.
        fast: Run the fastest form of the model that gives the same scores.
        out: Folder for run.json and confusion.csv.
    """
    command = given_command()
    recorder: Recorder[Evaluation] = Recorder(Evaluation, name=name or weights, config={}, command=command, seed=None)
    classifier = open_classifier(name or None, weights or None, image_size=image_size, device=device)
    source = find_data(data)
    if not isinstance(source, Found):
        if class_map or crop_fraction is not None:
            raise ConfigError(f"--class-map and --crop-fraction are for image files; {data} has none.")
        part = split or ("test" if source.facts.num_test else "validation")
        title = f"{source.facts.title}, {part}"
        num_images = source.facts.num_test if part == "test" else source.facts.num_validation
        with image_progress(num_images) as watch:
            result = evaluate_source(
                classifier,
                source,
                split=part,
                batch_size=batch_size,
                precision=precision,
                mirror=mirror,
                fast=fast,
                watch=watch,
            )
    else:
        images = choose_images(source, split or None)
        title = images.name
        for note in images.notes:
            print(f"note: {note}")
        with image_progress(images.num_images) as watch:
            result = evaluate_images(
                classifier,
                images,
                class_map=read_class_map(class_map) if class_map else None,
                batch_size=batch_size,
                precision=precision,
                mirror=mirror,
                crop_fraction=crop_fraction,
                num_threads=threads,
                fast=fast,
                watch=watch,
            )
    # After the matching of classes, which goes by the names of ImageNet's folders.
    classifier = imagenet_names(classifier)
    _show(classifier, result, title, f"{precision}, with mirror images" if mirror else precision)
    if out:
        recorder.name = classifier.name
        recorder.config = settings_of(classifier) | {
            "data": data,
            "split": split or None,
            "class_map": str(class_map) if class_map else None,
            "crop_fraction": crop_fraction,
            "batch_size": batch_size,
            "precision": precision,
            "mirror": mirror,
            "fast": fast,
            "device": str(next(classifier.model.parameters()).device),
        }
        print(f"\nrecord: {write_evaluation(result, classifier, out, recorder).resolve()}")
    return 0 if result.is_complete else 1


def _show(classifier: Classifier, result: ImageEvaluation, title: str, precision: str) -> None:
    low, high = result.top1_interval
    model = classifier.model
    device = next(model.parameters()).device
    what = f"{printable(classifier.name)} on {printable(title)}"
    lines = [
        f"{what}: {result.num_images:,} images, {model.config.num_classes} classes",
        *([f"note: {result.class_note}"] if result.class_note else []),
        "",
        f"top-1   {result.top1:6.2f}%   95% interval {low:.2f}% to {high:.2f}%",
        *([] if result.top5 is None else [f"top-5   {result.top5:6.2f}%"]),
        f"loss    {result.loss:6.4f}    nats",
        f"speed   {result.images_per_second:,.0f} images/s with reading; the model alone "
        f"{result.model_images_per_second:,.0f} ({device}, {precision})",
    ]
    print("\n".join(lines))
    _show_confusion(classifier, result.confusion)
    for image, reason in result.unreadable[:MOST_NAMED]:
        print(f"cannot read {printable(image)}: {reason}", file=sys.stderr)
    if result.unreadable:
        rest = len(result.unreadable) - MOST_NAMED
        more = f" {rest} more are in the record (--out)." if rest > 0 else ""
        print(f"{len(result.unreadable)} images could not be read and are not counted.{more}", file=sys.stderr)
    if result.sums.num_without_scores:
        print(
            f"{result.sums.num_without_scores:,} of {result.num_images:,} images have scores that are no numbers "
            f"(NaN or infinite) and count as wrong: the weights are damaged, or numbers overflow in {precision}.",
            file=sys.stderr,
        )


def _show_confusion(classifier: Classifier, confusion: Confusion) -> None:
    of_class = confusion.of_class
    if confusion.num_classes > LARGEST_MATRIX:
        accuracy = 100 * confusion.right / of_class
        worst = [index for index in accuracy.argsort().tolist() if of_class[index]][:WORST]
        print("\nlowest accuracy of a class:")
        for index in worst:
            taken = confusion.taken_for(index)
            told = f", taken for {printable(classifier.name_of(taken[0]))} {taken[1]} times" if taken else ""
            print(f"{accuracy[index]:6.1f}%  {printable(classifier.name_of(index))}{told}")
        return
    table = Table(
        box=None, pad_edge=False, title="images by true class (row) and predicted class", title_justify="left"
    )
    table.add_column("")
    table.add_column("")
    for index in range(confusion.num_classes):
        table.add_column(str(index), justify="right")
    table.add_column("right", justify="right")
    for index, row in enumerate(confusion.matrix().tolist()):
        share = f"{100 * row[index] / int(of_class[index]):.1f}%" if of_class[index] else "-"
        name = escape(printable(classifier.name_of(index))) if classifier.class_names else ""
        table.add_row(name, str(index), *(str(count) if count else "." for count in row), share)
    console = Console(soft_wrap=True, highlight=False)
    console.print()
    console.print(table)
