"""MTMNet as it is written down: one head after another, every matrix materialised, nothing computed that is thrown away.

A yardstick for speed and an oracle: the package must give the same score maps (tests/test_plain.py). It shares with the package the backbone, the
draws of shears and initial weights, and the shear itself; everything that costs time is here, in PyTorch's ordinary modules.
"""
import torch
import torch.nn.functional as F
from torch import nn

from cdfss.core import torch_rng
from cdfss.model.hierarchical_mask import PyramidHeads
from cdfss.train.adapt import AdaptConfig, draw_shears, warp_views


class Head(nn.Module):
    "One level's head and mask classifier; batch norm always in training mode."
    def __init__(self, channels: int, width: int):
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width), nn.Conv2d(width, width, 1)
        self.mask = nn.Conv2d(width, 2, 1)

    def forward(self, x): return self.linear(F.relu(self.norm(self.conv(x))))

    def start_from(self, stack, level: int):
        "Take over the initial weights that the package would draw."
        for name in ("conv", "linear", "mask"):
            getattr(self, name).weight.data = getattr(stack, f"{name}_weight")[level].detach()[..., None, None].clone()
            getattr(self, name).bias.data = getattr(stack, f"{name}_bias")[level].detach().clone()
        return self


def info_nce(x, y, temperature):
    "Dense InfoNCE of `n c h w` unit features, with the whole comparison matrix in memory."
    x, y = x.flatten(2), y.flatten(2)
    logits = x.transpose(1, 2) @ y / temperature
    targets = torch.arange(logits.shape[1], device=x.device).expand(len(x), -1)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def prototypes(features, masks, views):
    "Foreground and background prototypes of each view, `views c`."
    features, w = features.flatten(2).unflatten(0, (-1, views)), masks.flatten(1).unflatten(0, (-1, views))[:, :, None]
    return [(part*features).sum((0, 3))/(part.sum((0, 3)) + 1e-8) for part in (w, 1 - w)]


def losses(head, query, warped, support, masks, views, config):
    "The total of one level; `masks` are `(targets, augmented targets, augmented soft)`."
    unit = lambda x: F.normalize(head(x), dim=1)
    a, b, c = unit(query[0]), unit(query[1]), unit(warped[0])
    augmented = head(warped[1])
    d, targets, augmented_targets, soft = F.normalize(augmented, dim=1), *masks
    total = info_nce(a, b, config.temperature) + info_nce(c, d, config.temperature)
    total = total + F.cross_entropy(head.mask(head(support)), targets) + F.cross_entropy(head.mask(augmented), augmented_targets)
    (foreground, _), (other, other_background) = prototypes(c, soft, views), prototypes(d, soft, views)
    total = total + F.softplus(F.cosine_similarity(foreground, other_background) - F.cosine_similarity(foreground, other)).mean()
    anchor, w = c.flatten(2), soft.flatten(1)[:, None]
    return total + F.relu(F.pairwise_distance(anchor, anchor*w) - F.pairwise_distance(anchor, anchor*(1 - w)) + config.margin).mean()


def shrink(masks, size): return F.interpolate(masks[:, None].float(), size=size, mode="bilinear", align_corners=False)[:, 0]


def fit(backbone, support, query, config=AdaptConfig(), seed=0, each=None):
    "Fit one head after another on a support and one query `1 3 h w`; `each` is called with (level, step) after every step."
    shears = draw_shears(torch_rng(seed, "augment", support.class_id), config.views, config.shear)
    views = lambda x: warp_views(x, shears)
    with torch.no_grad():
        plain, plain_query = backbone(support.images), backbone(query)
        warped, warped_query = backbone(views(support.images)), backbone(views(query))
    augmented = views(support.masks[:, None])[:, 0]
    drawn = PyramidHeads([tuple(m.shape[1:]) for m in plain], config.width, seed=(seed, support.class_id, support.episode))
    heads = []
    for level, maps in enumerate(plain):
        group = next(g for g, levels in enumerate(drawn.groups) if level in levels)
        head = Head(maps.shape[1], config.width).start_from(drawn.stacks[group], drawn.groups[group].index(level)).to(maps.device)
        optimizer = torch.optim.SGD(head.parameters(), lr=config.learning_rate)
        soft = shrink(augmented, maps.shape[2:])
        masks = shrink(support.masks, maps.shape[2:]).long(), soft.long(), soft
        inputs = (views(plain_query[level]), warped_query[level]), (views(maps), warped[level]), maps
        for step in range(config.steps):
            optimizer.zero_grad()
            losses(head, *inputs, masks, config.views, config).backward()
            optimizer.step()
            if each is not None: each(level, step)
        heads.append(head)
    return heads


@torch.no_grad()
def score(backbone, heads, support, image):
    "The score map `h w` of one image `1 3 h w`: affinities materialised, levels one after another."
    maps = []
    for head, query, given in zip(heads, backbone(image), backbone(support.images)):
        q, s = head(query).flatten(2)[0], head(given)
        labels = shrink(support.masks, s.shape[2:]).flatten()
        attention = (q.T @ s.transpose(0, 1).flatten(1)/q.shape[0]**0.5).softmax(1)
        maps.append((attention @ labels).view(1, 1, *query.shape[2:]))
    coarse = maps[0].shape[2:]
    fused = torch.stack([F.interpolate(m, size=coarse, mode="bilinear", align_corners=False) for m in maps]).mean(0)
    return F.interpolate(fused, size=image.shape[2:], mode="bilinear", align_corners=False)[0, 0]
