"""Where an instance query looks: shares that sum to one, places that follow the offsets."""

from __future__ import annotations

import pytest
import torch

from tiny_symphonies import SIZE, config, frame, system
from wholescene.data.collate import collate
from wholescene.errors import InputError
from wholescene.systems.config import HalfChoice
from wholescene.systems.symphonies.looking import look_of
from wholescene.systems.symphonies.sight import look


def test_all_queries_together_get_all_the_attention_of_every_voxel_in_view() -> None:
    model, batch = system(), collate([frame()])
    whole = sum(look_of(model, batch, query).heard for query in range(model.config.queries))
    in_view = look(batch, config()).in_view[0].view(8, 8, 4).float()
    torch.testing.assert_close(torch.as_tensor(whole), in_view)


@pytest.mark.parametrize("layer", [0, 1])
def test_heads_that_look_one_way_read_that_way_from_the_querys_point(layer: int) -> None:
    model, batch = system(), collate([frame()])
    chosen = model.half_3d.volume_net.layers[layer]
    with torch.no_grad():
        chosen.instance_image.attention.sampling_offsets.bias.copy_(torch.tensor([2.0, -1.0]).repeat(12))
        if layer == 0:
            chosen.instance_scene.attention.sampling_offsets.bias.copy_(torch.tensor([0.0, 0.0, 1.0]).repeat(4))
    found = look_of(model, batch, 5, layer)
    point = torch.tensor(found.point)
    for stride, places in zip((4, 8, 16), torch.as_tensor(found.pixels).view(2, 3, 2, 2).unbind(1), strict=True):
        torch.testing.assert_close(places, (point + torch.tensor([2.0, -1.0]) * stride).expand_as(places), rtol=1e-4, atol=1e-2)
    assert found.pixel_weights.sum() == pytest.approx(2)  # one a head
    if layer == 1:
        assert found.voxels.shape == (0, 3)
        return
    at = look(batch, config()).voxels_of_points((point + 0.5)[None, None] / torch.tensor(SIZE))[0, 0]
    torch.testing.assert_close(torch.as_tensor(found.voxels), (at + torch.tensor([1.5, 0.5, 0.5])).expand(4, 3), rtol=1e-4, atol=1e-3)


def test_only_the_query_whose_pixel_has_no_depth_reads_nothing_of_the_scene() -> None:
    model, one = system(), frame()
    column, row = (model.half_2d.instances.places()[5] * torch.tensor(SIZE)).floor().long().tolist()
    one.depth[row, column] = 0
    batch = collate([one])
    assert [len(look_of(model, batch, query).voxels) for query in (4, 5, 6)] == [4, 0, 4]


def test_what_cannot_be_shown_is_refused() -> None:
    batch = collate([frame()])
    with pytest.raises(InputError, match="queries 0 to 11 and layers 0 to 1"):
        look_of(system(), batch, 12)
    with pytest.raises(InputError, match="without instance queries"):
        look_of(system(attentions=("scene-self",)), batch, 0)
    with pytest.raises(InputError, match="another 3D half"):
        look_of(system(completion=HalfChoice("monoscene"), height_factor=1), batch, 0)
