"""Two towers, one space: what comes out, what is learned, and that it learns."""

import json
import math

import pytest
import torch
from conftest import assert_close

from minclip.chunked_loss import chunked_sigmoid_loss, chunked_softmax_loss
from minclip.clip import CLIP, CLIPConfig, build_clip
from minclip.grad_cache import cached_step
from minclip.masking import mask_image
from minclip.sigmoid_loss import sigmoid_loss, uninformed_sigmoid_loss
from minclip.softmax_loss import softmax_loss, uninformed_softmax_loss
from minclip.tokenizer import END_ID, PAD_ID, START_ID

LOSSES = {"softmax": softmax_loss, "sigmoid": sigmoid_loss}
CHUNKED = {"softmax": chunked_softmax_loss, "sigmoid": chunked_sigmoid_loss}
TOWERS = {
    "vit": {"image_tower": "vit", "image_width": 32, "image_layers": (2,)},
    "resnet": {"image_tower": "resnet", "image_width": 16, "image_layers": (1, 1), "norm": "group"},
}


def tiny(tower="vit", loss="softmax", **settings):
    sizes = {"image_size": 16, "context_length": 8, "vocab_size": 40, "text_width": 32, "text_layers": 1}
    torch.manual_seed(0)
    return build_clip(CLIPConfig(**{"loss": loss, "embed_dim": 32, **sizes, **TOWERS[tower], **settings}))


def batch(n=5):
    """Random pictures `[n, 3, 16, 16]` and random captions `[n, 8]`."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(n, 3, 16, 16, generator=generator) * 2 - 1
    ids = torch.randint(3, 40, (n, 8), generator=generator)
    ids[:, 0], ids[:, 6], ids[:, 7] = START_ID, END_ID, PAD_ID
    return images, ids


@pytest.mark.parametrize("tower", TOWERS)
def test_features_are_unit_vectors(tower):
    model, (images, ids) = tiny(tower).double(), batch()
    for features in (model.encode_image(images.double()), model.encode_text(ids)):
        assert features.shape == (5, 32)
        assert_close(features.norm(dim=1), torch.ones(5, dtype=torch.float64))
        assert (features[0] - features[1]).abs().max() > 1e-4


def test_features_are_the_towers_projected_linearly():
    model, (images, ids) = tiny().double(), batch()
    projected = model.image_tower(images.double()) @ model.image_projection.weight.T
    assert_close(model.encode_image(images.double()), projected / projected.norm(dim=1, keepdim=True))
    projected = model.text_tower(ids) @ model.text_projection.weight.T
    assert_close(model.encode_text(ids), projected / projected.norm(dim=1, keepdim=True))


def test_features_of_half_precision_weights_are_float32():
    model, (images, ids) = tiny().bfloat16(), batch()
    for features in (model.encode_image(images.bfloat16()), model.encode_text(ids)):
        assert features.dtype == torch.float32
        torch.testing.assert_close(features.norm(dim=1), torch.ones(5), atol=1e-5, rtol=0)


def test_forward_returns_the_arguments_of_the_loss():
    for loss, count in (("softmax", 3), ("sigmoid", 4)):
        model, (images, ids) = tiny(loss=loss), batch()
        arguments = model(images, ids)
        assert len(arguments) == count and LOSSES[loss](*arguments).shape == ()
        assert_close(arguments[0], model.encode_image(images))
        assert_close(arguments[1], model.encode_text(ids))
        assert arguments[2] is model.logit_scale
        assert count == 3 or arguments[3] is model.logit_bias


def test_only_sigmoid_has_a_bias():
    softmax, sigmoid = tiny(loss="softmax"), tiny(loss="sigmoid")
    assert softmax.logit_bias is None
    assert set(dict(sigmoid.named_parameters())) - set(dict(softmax.named_parameters())) == {"logit_bias"}
    assert abs(softmax.logit_scale.exp().item() - 1 / 0.07) < 1e-5  # CLIP section 2.5
    assert abs(sigmoid.logit_scale.exp().item() - 10) < 1e-5 and sigmoid.logit_bias.item() == -10  # SigLIP section 3.2


def test_only_softmax_clamps_its_scale():
    softmax, sigmoid = tiny(loss="softmax"), tiny(loss="sigmoid")
    for start, after_softmax in ((6.0, math.log(100)), (3.0, 3.0), (-1.0, -1.0)):
        for model, expected in ((softmax, after_softmax), (sigmoid, start)):
            with torch.no_grad():
                model.logit_scale.fill_(start)
            model.clamp_logit_scale()
            assert abs(model.logit_scale.item() - expected) < 1e-6
    assert softmax.logit_scale.requires_grad


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("tower", "pool"), [("resnet", "mean"), ("vit", "cls"), ("vit", "mean"), ("vit", "map")])
def test_every_parameter_has_a_gradient(tower, pool, loss):
    """A parameter that the loss does not use would stop DistributedDataParallel."""
    model = tiny(tower, loss, image_pool=pool)
    LOSSES[loss](*model(*batch())).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_new_sigmoid_model_pays_for_the_positives_only():
    images, ids = batch(64)
    loss = sigmoid_loss(*tiny(loss="sigmoid")(images, ids))
    assert 5 < loss < 15  # about 10, not 10 B


@pytest.mark.parametrize(
    ("tower", "loss", "lr", "steps"),
    [("vit", "softmax", 1e-3, 100), ("vit", "sigmoid", 2e-3, 300), ("resnet", "softmax", 1e-3, 100)],
)
def test_it_learns_64_random_pairs_by_heart(tower, loss, lr, steps):
    model, (images, ids) = tiny(tower, loss), batch(64)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        value = LOSSES[loss](*model(images, ids))
        value.backward()
        optimizer.step()
        model.clamp_logit_scale()
    uninformed = {"softmax": uninformed_softmax_loss, "sigmoid": uninformed_sigmoid_loss}[loss](64)
    assert value < 0.03 * uninformed, value
    with torch.no_grad():
        nearest = (model.encode_image(images) @ model.encode_text(ids).T).argmax(1)
    assert nearest.tolist() == list(range(64))


def test_the_seed_fixes_the_weights():
    first, again = tiny(), tiny()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))


def test_the_configuration_reaches_the_towers():
    model = tiny("vit", image_pool="cls", patch_size=8, heads=2, dropout=0.25)
    assert len(model.image_tower.position_embedding) == 2 * 2 + 1 and model.image_tower.pool == "cls"
    for tower, layers in ((model.image_tower, 2), (model.text_tower, 1)):
        assert [block.heads for block in tower.blocks] == [2] * layers
        assert all(block.dropout.p == 0.25 for block in tower.blocks)
    resnet = tiny("resnet", norm="batch", stem_stride=1, image_layers=(1, 2))
    assert "image_tower.stem.1.running_mean" in resnet.state_dict() and len(resnet.image_tower.blocks) == 3
    assert len(resnet.image_tower.pool.position_embedding) == 8 * 8 + 1


@pytest.mark.parametrize(("tower", "loss"), [("vit", "sigmoid"), ("resnet", "softmax")])
def test_a_saved_model_comes_back(tower, loss, tmp_path):
    model, (images, ids) = tiny(tower, loss).double(), batch()
    (tmp_path / "config.json").write_text(json.dumps({"seed": 3}))  # what a run has written there stays
    model.save_pretrained(tmp_path)
    loaded = CLIP.from_pretrained(tmp_path)
    assert loaded.config == model.config and loaded.loss == loss and not loaded.training
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 3
    model.eval()
    for ours, theirs in zip(model(images.double(), ids), loaded(images.double(), ids)):
        assert torch.equal(ours, theirs)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not hold config.json"):
        CLIP.from_pretrained(tmp_path)
    tiny().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model": {"depth": 3, "image_layers": [1]}}')
    with pytest.raises(ValueError, match="config.json does not describe a minclip model.*depth"):
        CLIP.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="does not hold model.safetensors"):
        CLIP.from_pretrained(tmp_path)


def test_unknown_choices_are_named():
    with pytest.raises(ValueError, match="unknown loss 'hinge'; choose from softmax, sigmoid"):
        tiny(loss="hinge")
    with pytest.raises(ValueError, match="unknown image_tower 'mlp'; choose from resnet, vit"):
        tiny(image_tower="mlp")


def test_weights_that_do_not_fit_are_named(tmp_path):
    model = build_clip(CLIPConfig(image_tower="vit", vocab_size=300))
    model.save_pretrained(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="model.safetensors does not fit"):
        CLIP.from_pretrained(tmp_path)
    build_clip(CLIPConfig(image_tower="vit", vocab_size=301)).save_pretrained(tmp_path / "other")
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "other/model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="model.safetensors does not fit"):
        CLIP.from_pretrained(tmp_path)


# --- fewer patches


def masked_batch(n=11, keep=0.25):
    """A batch in float64 with the patches that stay, long `[n, 4]` of 16."""
    images, ids = batch(n)
    return images.double(), ids, mask_image(torch.rand(n, 16, generator=torch.Generator().manual_seed(2)), 4, keep)


def test_the_mask_reaches_the_image_tower_and_nothing_else():
    model, (images, ids, kept) = tiny().double(), masked_batch()
    image_features, text_features, scale = model(images, ids, kept)
    projected = model.image_tower(images, kept) @ model.image_projection.weight.T
    assert_close(image_features, projected / projected.norm(dim=1, keepdim=True))
    assert_close(image_features, model.encode_image(images, kept))
    assert (image_features - model.encode_image(images)).abs().max() > 1e-4
    assert torch.equal(text_features, model.encode_text(ids)) and scale is model.logit_scale


def test_keep_1_is_bit_for_bit_the_plain_model():
    model, (images, ids, kept) = tiny().double(), masked_batch(keep=1.0)
    assert kept is None
    for ours, theirs in zip(model(images, ids, kept), model(images, ids), strict=True):
        assert torch.equal(ours, theirs)


def test_masking_on_the_resnet_is_named():
    model, (images, ids, kept) = tiny("resnet").double(), masked_batch()
    with pytest.raises(ValueError, match="only a ViT can leave out patches; use --image_tower vit, or --image_keep 1"):
        model(images, ids, kept)
    assert model(images, ids, None)[0].shape == (11, 32)


@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_the_configuration_chooses_the_positions(positions):
    tower = tiny(image_positions=positions).image_tower
    assert (tower.position_embedding is None) == (positions == "sincos")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("micro", [1, 4, 11])
def test_cached_micro_batches_with_masks_are_autograd_with_all_graphs_kept(loss, micro):
    """Each micro-batch goes with its own rows of the mask, in both forwards; dropout is on."""
    three = masked_batch()
    results = []
    for step in ("kept", "cached", "chunked"):
        model = tiny(loss=loss, dropout=0.2, image_pool="cls").double().train()
        torch.manual_seed(7)
        if step == "kept":
            images, texts, *scalars = zip(*(model(*part) for part in zip(*(x.split(micro) for x in three))))
            value = LOSSES[loss](torch.cat(images), torch.cat(texts), *(scalar[0] for scalar in scalars))
            value.backward()
        else:
            loss_fn = LOSSES[loss] if step == "cached" else CHUNKED[loss]
            value = cached_step(model, three, loss_fn, micro)
        results.append([value.detach(), *(parameter.grad for parameter in model.parameters())])
    for expected, cached, chunked in zip(*results, strict=True):
        assert_close(cached, expected)
        assert_close(chunked, expected)
