"""Names of torchvision's and timm's weights, and the addresses that they stand for."""

import hashlib
from http.server import BaseHTTPRequestHandler

import pytest

from framework.pretrain.errors import HashError, NotFoundError
from framework.pretrain.source import fetch
from framework.pretrain.sources.zoo import timm_address, torchvision_address

V1 = "https://download.pytorch.org/models/resnet50-0676ba61.pth"
V2 = "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"


class Mirror(BaseHTTPRequestHandler):
    """Answers every request with its path."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *args):
        pass


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("resnet50", V1),
        ("resnet50.IMAGENET1K_V2", V2),
        ("resnet50.imagenet1k_v1", V1),
        ("resnet50.DEFAULT", V2),
        ("ResNet50_Weights.IMAGENET1K_V2", V2),
        ("ResNet50_Weights.IMAGENET1K_V1", V1),
        ("vit_h_14", "https://download.pytorch.org/models/vit_h_14_swag-80465313.pth"),
    ],
)
def test_names_of_torchvision(name, url):
    assert torchvision_address(name) == url


def test_unknown_names_of_torchvision():
    with pytest.raises(NotFoundError, match="did you mean resnet50"):
        torchvision_address("resnet_50")
    with pytest.raises(NotFoundError, match=r"torchvision://ResNet50_Weights\.IMAGENET1K_V2"):
        torchvision_address("ResNet50_Weights.IMAGENET1K_V3")


def test_names_of_timm():
    pytest.importorskip("timm")
    assert timm_address("vit_base_patch16_224.mae") == "hf://timm/vit_base_patch16_224.mae"
    assert timm_address("resnet50") == "hf://timm/resnet50.a1_in1k"
    with pytest.raises(NotFoundError, match=r"did you mean .*vit_base_patch16_224\.mae"):
        timm_address("vit_base_patch16_224.mea")
    with pytest.raises(NotFoundError, match="no pretrained weights"):
        timm_address("vit_giant_patch14_224")


def test_a_mirror_takes_the_place_of_what_a_name_stands_for(loopback, cache_home):
    mapping = ("https://download.pytorch.org", loopback(Mirror))
    with pytest.raises(HashError, match="0676ba61"):
        fetch("torchvision://resnet50", url_mapping=mapping)
    served = b"/models/resnet50-0676ba61.pth"
    path = fetch("torchvision://resnet50", url_mapping=mapping, sha256=hashlib.sha256(served).hexdigest())
    assert path.read_bytes() == served
