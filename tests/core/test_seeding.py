import torch

from metaformer.core.seeding import generator, key_seed

KEYS = [("train", 0), ("train", 1), ("train", "0"), ("train0",), (0, "train"), ("tr", "ain", 0), (), (-1,)]


def test_different_keys_never_share_a_seed():
    assert len({key_seed(*key) for key in KEYS}) == len(KEYS)


def test_seeds_fit_into_63_bits():
    assert all(0 <= key_seed("key", i) < 2**63 for i in range(1000))


def test_neighbouring_keys_have_unrelated_seeds():
    distances = {key_seed("epoch", i + 1) - key_seed("epoch", i) for i in range(100)}
    assert min(abs(distance) for distance in distances) > 2**40


def test_the_seed_of_a_key_never_changes():
    # Results of earlier versions are repeated with these streams.
    assert key_seed("train", 0) == 5053647422441284027


def test_another_process_gets_the_same_seed(run_python):
    code = "from metaformer.core.seeding import key_seed; print(key_seed('data', 3, 'x'))"
    assert int(run_python(code, PYTHONHASHSEED="1")) == key_seed("data", 3, "x")


def test_generators_of_one_key_draw_the_same_numbers():
    assert torch.equal(torch.rand(5, generator=generator("a", 1)), torch.rand(5, generator=generator("a", 1)))


def test_generators_of_two_keys_draw_different_numbers():
    assert not torch.equal(torch.rand(5, generator=generator("a", 1)), torch.rand(5, generator=generator("a", 2)))


def test_a_generator_leaves_pytorchs_own_alone():
    before = torch.get_rng_state()
    torch.rand(5, generator=generator("a"))
    assert torch.equal(torch.get_rng_state(), before)
