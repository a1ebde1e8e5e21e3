from __future__ import annotations

import torch
from torchvision import tv_tensors

from framework.registry import TRANSFORMS


def erase(image, **arguments):
    return TRANSFORMS.build(dict(type="RandomErasingPixels", **arguments))(tv_tensors.Image(image))


def test_the_noise_has_the_given_mean_and_deviation():
    torch.manual_seed(0)
    image = torch.zeros(3, 200, 200, dtype=torch.uint8)
    erased = erase(image, p=1.0, scale=(0.5, 0.5), ratio=(1, 1), mean=(60, 120, 180), std=(4, 8, 12))
    assert erased.dtype == torch.uint8
    noise = erased[:, (erased != 0).all(0)].float()
    assert 0.49 < noise.shape[1] / 40000 < 0.51
    torch.testing.assert_close(noise.mean(1), torch.tensor([60.0, 120.0, 180.0]), atol=0.5, rtol=0)
    torch.testing.assert_close(noise.std(1), torch.tensor([4.0, 8.0, 12.0]), atol=0.3, rtol=0)


def test_noise_beyond_the_range_is_clipped_and_not_wrapped():
    erased = erase(
        torch.full((3, 50, 50), 255, dtype=torch.uint8), p=1.0, mean=(255, 255, 255), std=(50, 50, 50)
    )
    assert erased.min() > 40
    assert (erased == 255).float().mean() > 0.5


def test_an_image_may_be_left_alone():
    image = torch.randint(0, 256, (3, 20, 20), dtype=torch.uint8)
    assert torch.equal(erase(image, p=0.0), image)
