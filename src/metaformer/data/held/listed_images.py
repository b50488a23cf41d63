"""Images that could only be read in order, kept as files in memory."""

from collections.abc import Sequence

from metaformer.data.image_set import ImageSet, IndexedImages, Sample


class ListedImages(IndexedImages):
    """Reads a set once, without decoding; from then on each image can be had by its number."""

    def __init__(self, images: ImageSet) -> None:
        self.name, self.class_names = images.name, images.class_names
        self.order_is_by_name = images.order_is_by_name
        self._samples = list(images)
        self.num_images = len(self._samples)

    def read_labels(self) -> Sequence[object]:
        return [sample.label for sample in self._samples]

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]
