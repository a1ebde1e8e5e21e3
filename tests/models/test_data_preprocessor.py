"""The data preprocessor, and mixing."""

import pytest
import torch

from framework.errors import ConfigError
from framework.models.classifiers import ClsDataPreprocessor
from framework.registry import MODELS

LABELS = torch.tensor([0, 1, 2, 3])


def constant_images() -> torch.Tensor:
    """Return images whose value is their label, so that shares can be read off a mixture."""
    return LABELS.float().view(4, 1, 1, 1).expand(4, 3, 8, 8).clone()


def test_normalises_uint8() -> None:
    preprocessor = ClsDataPreprocessor(mean=[1, 2, 3], std=[2, 4, 8])
    batch = {"inputs": torch.full((2, 3, 4, 4), 9, dtype=torch.uint8), "labels": torch.tensor([1, 0])}
    out = preprocessor(batch)
    assert out["inputs"].dtype == torch.float32 and out["inputs"][1, :, 2, 2].tolist() == [4, 1.75, 0.75]
    assert torch.equal(out["labels"], batch["labels"]) and batch["inputs"].dtype == torch.uint8


def test_without_arguments_it_only_casts() -> None:
    out = ClsDataPreprocessor()({"inputs": torch.full((1, 3, 2, 2), 200, dtype=torch.uint8), "ids": [7]})
    assert out["inputs"].unique().tolist() == [200.0] and out["ids"] == [7] and "labels" not in out
    assert ClsDataPreprocessor()({"inputs": torch.ones(1, 3, 2, 2).half()})["inputs"].dtype == torch.float16


def test_channels_are_reversed_before_the_mean_is_taken() -> None:
    image = torch.tensor([10.0, 20, 30]).view(3, 1, 1)
    preprocessor = ClsDataPreprocessor(mean=[30, 20, 10], std=[1, 1, 1], to_rgb=True)
    assert preprocessor({"inputs": [image, image]})["inputs"].abs().max() == 0


def test_buffers_are_not_saved_and_follow_the_model() -> None:
    preprocessor = ClsDataPreprocessor(mean=[1, 2, 3], std=[2, 4, 8])
    assert not preprocessor.state_dict() and preprocessor.double().mean.dtype == torch.float64


def mixing(*augments: dict, **kwargs: object) -> ClsDataPreprocessor:
    return ClsDataPreprocessor(num_classes=4, batch_augments={"augments": list(augments), **kwargs})


@pytest.mark.parametrize("name", ["Mixup", "CutMix"])
def test_labels_are_the_shares_of_the_images(name: str) -> None:
    torch.manual_seed(1)
    preprocessor, soft = mixing({"type": name, "alpha": 1.0}), 0
    for _ in range(10):
        out = preprocessor({"inputs": constant_images(), "labels": LABELS}, training=True)
        assert out["labels"].shape == (4, 4)
        torch.testing.assert_close(out["labels"].sum(1), torch.ones(4))
        torch.testing.assert_close(out["inputs"].mean((1, 2, 3)), out["labels"] @ LABELS.float())
        soft += bool((out["labels"].max() < 1).item())
        constant = out["inputs"].std((1, 2, 3)).max() < 1e-6
        assert name == "CutMix" or constant
    assert soft >= 5


def test_nothing_is_mixed_in_evaluation() -> None:
    out = mixing({"type": "Mixup", "alpha": 1.0})({"inputs": constant_images(), "labels": LABELS})
    assert torch.equal(out["inputs"], constant_images()) and torch.equal(out["labels"], LABELS)


def test_probabilities_choose_between_the_augmentations() -> None:
    torch.manual_seed(0)
    preprocessor = mixing({"type": "Mixup", "alpha": 1.0}, {"type": "CutMix", "alpha": 1.0}, probs=[0.5, 0.2])
    counts = {"mixup": 0, "cutmix": 0, "none": 0}
    for _ in range(300):
        out = preprocessor({"inputs": constant_images(), "labels": LABELS}, training=True)
        if out["labels"].ndim == 1:
            counts["none"] += 1
        else:
            cut = out["inputs"].std((1, 2, 3)).max() > 1e-6
            counts["cutmix" if cut else "mixup"] += 1
    assert counts["mixup"] == pytest.approx(150, abs=30) and counts["none"] == pytest.approx(90, abs=30)
    assert counts["cutmix"] > 30


def test_certain_and_impossible_augmentations() -> None:
    data = {"inputs": constant_images(), "labels": LABELS}
    assert mixing({"type": "Mixup", "alpha": 1.0}, probs=0.0)(data, training=True)["labels"].ndim == 1
    assert mixing({"type": "Mixup", "alpha": 1.0}, probs=1.0)(data, training=True)["labels"].ndim == 2


def test_one_hot_labels_in_training() -> None:
    preprocessor = ClsDataPreprocessor(to_onehot=True, num_classes=4)
    data = {"inputs": constant_images(), "labels": LABELS}
    assert torch.equal(preprocessor(data, training=True)["labels"], torch.eye(4))
    assert torch.equal(preprocessor(data)["labels"], LABELS)


def test_probabilities_can_be_mixed_again() -> None:
    data = {"inputs": constant_images(), "labels": torch.full((4, 4), 0.25)}
    out = mixing({"type": "CutMix", "alpha": 1.0})(data, training=True)
    torch.testing.assert_close(out["labels"], data["labels"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mean": [1, 2, 3]}, "mean and std come together"),
        ({"to_onehot": True}, "num_classes"),
        ({"batch_augments": {"augments": {"type": "Mixup", "alpha": 1.0}}}, "num_classes"),
        (
            {"num_classes": 4, "batch_augments": {"augments": {"type": "Mix", "alpha": 1.0}}},
            "Mixup, MixUp, CutMix",
        ),
        ({"num_classes": 4, "batch_augments": {"augments": {"type": "Mixup"}}}, "takes alpha"),
        (
            {"num_classes": 4, "batch_augments": {"augments": {"type": "Mixup", "alpha": 1.0}, "probs": 2.0}},
            "probs",
        ),
        ({"num_classes": 4, "batch_augments": {"augment": []}}, "did you mean augments"),
    ],
)
def test_wrong_values_are_told(arguments: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        MODELS.build({"type": "ClsDataPreprocessor", **arguments})
