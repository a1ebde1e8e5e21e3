"""The classifier: its modes, its losses, its freezing, and a step of training."""

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn
from torch.nn import functional

from framework.errors import ConfigError
from framework.models.classifiers import Classifier
from framework.models.classifiers.accuracy import topk_accuracy
from framework.models.losses import CrossEntropyLoss, LabelSmoothLoss
from framework.registry import MODELS

RESNET = {"type": "ResNet", "depth": 18, "stem_channels": 4, "base_channels": 4, "zero_init_residual": False}
HEAD = {"type": "ClassifierHead", "dim": 32, "num_classes": 6}
CFG = {"type": "Classifier", "backbone": RESNET, "neck": {"type": "GlobalAveragePooling"}, "head": HEAD}
ARCH = {"embed_dims": 24, "num_layers": 2, "num_heads": 2, "feedforward_channels": 48}
VIT = {"type": "VisionTransformer", "arch": ARCH, "img_size": 16, "patch_size": 8}
LABELS = torch.tensor([0, 5, 2, 2])


def build(**changes: object) -> Classifier:
    return MODELS.build({**CFG, **changes})


def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32)


def test_logits_are_head_of_neck_of_backbone() -> None:
    model, x = build().eval(), images()
    (feature,) = model.backbone(x)
    expected = functional.linear(feature.mean((2, 3)), model.head.fc.weight, model.head.fc.bias)
    torch.testing.assert_close(model(x), expected)
    assert model(x).shape == (4, 6)
    assert torch.equal(model.extract_feat(x, stage="backbone")[0], feature)


def test_the_config_is_not_changed_and_the_alias_builds_the_same_class() -> None:
    cfg = {**CFG, "type": "ImageClassifier", "train_cfg": {"augments": {"type": "Mixup", "alpha": 0.8}}}
    before = copy.deepcopy(cfg)
    assert type(MODELS.build(cfg)) is Classifier and cfg == before


def test_names_of_parameters_are_those_of_the_parts() -> None:
    names = set(build(data_preprocessor={"mean": [1.0] * 3, "std": [2.0] * 3}).state_dict())
    assert {"head.fc.weight", "head.fc.bias", "backbone.conv1.weight"} <= names
    assert {name.split(".")[0] for name in names} == {"backbone", "head"}


@pytest.mark.parametrize("head", [None, HEAD])
def test_without_a_neck(head: dict | None) -> None:
    model = build(backbone=VIT, neck=None, head=head and {**head, "dim": 24}).eval()
    out = model(torch.randn(2, 3, 16, 16))
    assert out[0].shape == (2, 24) if head is None else out.shape == (2, 6)


def test_several_necks_in_a_list() -> None:
    model, x = build().eval(), images()
    other = build(neck=[{"type": "Identity"}, {"type": "GlobalAveragePooling"}]).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))


def test_parts_may_be_built_already() -> None:
    model = build()
    again = Classifier(model.backbone, model.neck, model.head, data_preprocessor=model.data_preprocessor)
    assert again.backbone is model.backbone and again.data_preprocessor is model.data_preprocessor


def test_losses_of_class_indices_have_accuracies() -> None:
    model, x = build(topk=(1, 3)).eval(), images()
    logits, losses = model(x), model(x, LABELS, mode="loss")
    assert list(losses) == ["loss", "accuracy_top-1", "accuracy_top-3"]
    torch.testing.assert_close(losses["loss"], functional.cross_entropy(logits, LABELS))
    hits = (logits.argsort(1, descending=True)[:, :3] == LABELS[:, None]).any(1)
    assert losses["accuracy_top-3"].item() == pytest.approx(hits.float().mean().item())
    total, logged = model.parse_losses(losses)
    assert total is not None and torch.equal(total, losses["loss"]) and "accuracy_top-1" in logged


def test_losses_of_probabilities_have_none() -> None:
    model, x = build().eval(), images()
    target = 0.6 * functional.one_hot(LABELS, 6) + 0.4 * functional.one_hot(LABELS.flip(0), 6)
    losses = model(x, target, mode="loss")
    assert list(losses) == ["loss"]
    torch.testing.assert_close(losses["loss"], functional.cross_entropy(model(x), target))


def test_binary_cross_entropy_is_summed_over_classes() -> None:
    model, x = build(loss={"type": "CrossEntropyLoss", "use_sigmoid": True}).eval(), images()
    expected = functional.binary_cross_entropy_with_logits(
        model(x), functional.one_hot(LABELS, 6).float(), reduction="none"
    )
    torch.testing.assert_close(model(x, LABELS, mode="loss")["loss"], expected.sum(1).mean())


def test_topk_accuracy_by_hand() -> None:
    scores = torch.tensor([[0.1, 0.5, 0.4], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.5, 0.1, 0.4]])
    labels = torch.tensor([1, 1, 2, 1])
    assert [a.item() for a in topk_accuracy(scores, labels, (1, 2, 5))] == [0.5, 0.75, 1]


def test_where_the_loss_may_stand() -> None:
    smooth = {"type": "LabelSmoothLoss", "label_smooth_val": 0.1}
    assert isinstance(build().criterion, CrossEntropyLoss)
    assert isinstance(build(loss=smooth).criterion, LabelSmoothLoss)
    model = build(head={**HEAD, "loss": smooth, "topk": (1, 5)})
    assert isinstance(model.criterion, LabelSmoothLoss) and model.topk == (1, 5)
    with pytest.raises(ConfigError, match="both in the head and beside it"):
        build(head={**HEAD, "loss": smooth}, loss=smooth)


def test_accuracies_can_be_left_out() -> None:
    head = {"type": "LinearClsHead", "in_channels": 32, "num_classes": 6, "cal_acc": False, "topk": 1}
    assert list(build(head=head)(images(), LABELS, mode="loss")) == ["loss"]


def test_predictions() -> None:
    model, x = build().eval(), images()
    found = model(x, LABELS, mode="predict")
    torch.testing.assert_close(found["scores"], model(x).softmax(1))
    assert torch.equal(found["pred_labels"], model(x).argmax(1)) and torch.equal(found["labels"], LABELS)
    assert set(model(x, mode="predict")) == {"scores", "pred_labels"}


@pytest.mark.parametrize("step", ["val_step", "test_step"])
def test_steps_predict_a_list_of_one_batch(step: str) -> None:
    model, x = build(data_preprocessor={"mean": [1.0] * 3, "std": [2.0] * 3}).eval(), images()
    (found,) = getattr(model, step)({"inputs": x, "labels": LABELS})
    torch.testing.assert_close(found["scores"], model((x - 1) / 2).softmax(1))
    assert torch.equal(found["labels"], LABELS)


def test_a_step_of_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    model = build().train()
    optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05))
    batch = {"inputs": images(), "labels": LABELS}
    losses = [model.train_step(batch, optim)["loss"].item() for _ in range(8)]
    assert losses[-1] < 0.5 * losses[0]


def test_training_on_mixed_batches() -> None:
    train_cfg = {"augments": [{"type": "Mixup", "alpha": 0.8}, {"type": "CutMix", "alpha": 1.0}]}
    model = build(train_cfg=train_cfg, loss={"type": "LabelSmoothLoss", "label_smooth_val": 0.1})
    optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    assert model.data_preprocessor.num_classes == 6
    assert list(model.train_step({"inputs": images(), "labels": LABELS}, optim)) == ["loss"]
    assert model.val_step({"inputs": images(), "labels": LABELS})[0]["labels"].shape == (4,)


@pytest.mark.parametrize("freeze", [False, True])
def test_freeze_bn(freeze: bool) -> None:
    model = build(freeze_bn=freeze)
    assert model.backbone.bn1.training != freeze
    model.train()
    before = model.backbone.bn1.running_mean.clone()
    model(images() + 1, LABELS, mode="loss")["loss"].backward()
    assert torch.equal(model.backbone.bn1.running_mean, before) == freeze
    assert model.backbone.bn1.weight.grad is not None and model.head.training


def test_init_weights_changes_nothing_but_what_init_cfg_says() -> None:
    init_cfg = {"type": "Constant", "layer": "Linear", "val": 0.25}
    model = build(head={**HEAD, "init_cfg": init_cfg})
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.init_weights()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"head.fc.weight"} and model.head.fc.weight.unique().tolist() == [0.25]


def test_layer_depth_goes_through_the_backbone() -> None:
    model = build(backbone=VIT, neck=None, head={**HEAD, "dim": 24})
    depths = {n: model.get_layer_depth(n)[0] for n, _ in model.named_parameters()}
    assert depths["backbone.pos_embed"] == 0 and depths["backbone.blocks.1.norm1.bias"] == 2
    assert depths["backbone.norm.weight"] == depths["head.fc.weight"] == 3


def test_wrong_use_is_told() -> None:
    model = build()
    with pytest.raises(ValueError, match="tensor, loss, predict"):
        model(images(), mode="train")
    with pytest.raises(ValueError, match="needs labels"):
        model(images(), mode="loss")
    with pytest.raises(ValueError, match="needs a head"):
        build(head=None)(images(), LABELS, mode="loss")
    with pytest.raises(ValueError, match="backbone, neck"):
        model.extract_feat(images(), stage="head")
    with pytest.raises(ValueError, match="num_classes the same everywhere"):
        model(images(), torch.ones(4, 10) / 10, mode="loss")


def test_an_error_names_the_place_in_the_config() -> None:
    with pytest.raises(ConfigError, match=r"model\.backbone\.depht: did you mean depth"):
        build(backbone={"type": "ResNet", "depht": 50})


def test_mixing_stands_in_one_place() -> None:
    mixup = {"augments": {"type": "Mixup", "alpha": 0.8}}
    with pytest.raises(ConfigError, match="leave one out"):
        build(train_cfg=mixup, data_preprocessor={"batch_augments": mixup})
    with pytest.raises(ConfigError, match="preprocessor as a dict"):
        build(train_cfg=mixup, data_preprocessor=nn.Identity())
