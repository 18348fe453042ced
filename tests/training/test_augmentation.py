import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from topocompress.training.augmentation import augmentation_of, augmented

RAMP = torch.arange(16.0).reshape(1, 1, 4, 4)


def windows(image, pad):
    """Every crop of an image whose border was repeated."""
    padded = torch.nn.functional.pad(image[None], (pad,) * 4, mode="replicate")[0]
    height, width = image.shape[-2:]
    return [
        padded[:, top : top + height, left : left + width] for top in range(2 * pad + 1) for left in range(2 * pad + 1)
    ]


def drawn(image, kind, count=200, **settings):
    return augmented(image.expand(count, *image.shape[1:]), range(count), kind, **{"seed": 0, "epoch": 1, **settings})


def test_a_shift_is_a_window_of_the_image_with_its_border_repeated_and_all_windows_occur():
    found = drawn(RAMP, "shift")
    possible = {window.numpy().tobytes() for window in windows(RAMP[0], 1)}
    assert {image.numpy().tobytes() for image in found} == possible
    assert len(possible) == 9


def test_nothing_enters_but_what_is_in_the_image():
    normalised = RAMP - 7  # zero would be in the middle of the range
    assert set(drawn(normalised[..., :1, :], "natural").flatten().tolist()) <= set(normalised[0, 0, 0].tolist())


def test_the_shift_is_at_most_an_eighth_of_each_side():
    image = torch.zeros(1, 1, 32, 16)
    image[..., 16, 8] = 1
    rows, columns = (drawn(image, "shift", 400) == 1).nonzero()[:, 2:].T
    assert (rows.min(), rows.max()) == (12, 20)
    assert (columns.min(), columns.max()) == (6, 10)


def test_natural_images_are_mirrored_every_other_time_and_shifted_ones_never():
    def mirrored(kind):
        found = drawn(RAMP, kind)
        return int((found[:, 0, 0, 0] > found[:, 0, 0, -1]).sum())

    assert mirrored("shift") == 0
    assert 70 < mirrored("natural") < 130


def test_what_happens_to_a_sample_depends_on_its_number_the_epoch_and_the_seed_alone():
    images = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    whole = augmented(images, range(6), "natural", seed=3, epoch=2)
    assert torch.equal(whole[[4, 1]], augmented(images[[4, 1]], [4, 1], "natural", seed=3, epoch=2))
    assert not torch.equal(whole, augmented(images, range(6), "natural", seed=3, epoch=3))
    assert not torch.equal(whole, augmented(images, range(6), "natural", seed=4, epoch=2))
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_is_done_to_vectors_or_if_nothing_is_to_be_done():
    assert augmented(RAMP, [0], "none", seed=0, epoch=1) is RAMP
    vectors = torch.rand(3, 5)
    assert augmented(vectors, range(3), "natural", seed=0, epoch=1) is vectors


@pytest.mark.parametrize(
    ("suits", "asked", "kind"),
    [
        ("shift", None, "shift"),
        ("shift", True, "shift"),
        ("natural", False, "none"),
        (None, None, "none"),
        (None, True, "natural"),
        ("none", True, "none"),
    ],
)
def test_what_suits_the_samples_counts(suits, asked, kind):
    samples = TensorDataset(RAMP)
    if suits:
        samples.augmentation = suits
    assert augmentation_of(samples, asked) == kind
    assert augmentation_of(Subset(samples, [0]), asked) == kind
