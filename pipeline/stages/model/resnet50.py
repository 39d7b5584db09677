"""ResNet50, as torchvision has it (He et al. 2015, https://arxiv.org/abs/1512.03385, stride in the 3 x 3 convolution).

Its names are torchvision's, so that its state dicts load, and its logits are torchvision's to the bit; a test holds the
two together. It stands here because importing torchvision imports torch's compiler as well: that alone took two fifths
of the time from a worker's start to its first batch.
"""

from torch import Tensor, nn

_STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
"""Blocks and width of each stage."""

_EXPANSION = 4
"""Channels that a block gives, as a multiple of its width."""


class Bottleneck(nn.Module):
    """Three convolutions around which the input is passed."""

    def __init__(self, n_channels: int, width: int, stride: int, *, is_first: bool) -> None:
        super().__init__()
        n_given = _EXPANSION * width
        self.conv1 = nn.Conv2d(n_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, n_given, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(n_given)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            nn.Sequential(nn.Conv2d(n_channels, n_given, 1, stride, bias=False), nn.BatchNorm2d(n_given))
            if is_first
            else None
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, 4 x width, H / stride, W / stride) features."""
        passed = images if self.downsample is None else self.downsample(images)
        features = self.relu(self.bn1(self.conv1(images)))
        features = self.relu(self.bn2(self.conv2(features)))
        features = self.bn3(self.conv3(features))
        features += passed
        return self.relu(features)  # type: ignore[no-any-return]


class ResNet50(nn.Module):
    """(N, 3, H, W) normalised images in, (N, `n_classes`) logits out."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = _stages()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(_EXPANSION * _STAGES[-1][1], n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of each image."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        return self.fc(self.avgpool(features).flatten(1))  # type: ignore[no-any-return]


def _stages() -> list[nn.Sequential]:
    stages, n_channels = [], 64
    for number, (n_blocks, width) in enumerate(_STAGES):
        blocks = []
        for block in range(n_blocks):
            stride = 2 if number > 0 and block == 0 else 1
            blocks.append(Bottleneck(n_channels, width, stride, is_first=block == 0))
            n_channels = _EXPANSION * width
        stages.append(nn.Sequential(*blocks))
    return stages
