import json
from dataclasses import asdict, replace

import pytest

from experiments import cost, published, recipes
from experiments.recipes import RECIPES, Recipe, Stage
from minclip import runs
from minclip.clip import CLIP, CLIPConfig
from minclip.train import train

TINY = Recipe(
    "tiny", "a test",
    CLIPConfig(
        "vit", image_size=16, image_width=32, image_layers=(1,), patch_size=4, context_length=8, vocab_size=300,
        text_width=32, text_layers=1, heads=2, embed_dim=16, image_positions="sincos",
    ),
    (
        Stage("pretrain", 90, 16, 8, 1e-3, 1, text_tokens=4, base_muon_lr=0.02),
        Stage("finetune", 32, 8, 16, 2e-4, 1, image_keep=0.5, base_muon_lr=0.002),
    ),
)  # fmt: skip
QUICK = {"precision": "fp32", "progress": False, "checkpoint_every": 2, "log_every": 1}


# name, stage, batch, image tokens, text tokens, learning rate, warm-up, steps: anchors of the papers' scripts
ROWS = [
    ("clipa-b16-i50-t16", 1, 65_536, 50, 16, 2.048e-3, 782, 36_622),
    ("clipa-b16-i50-t16", 2, 8_192, 197, 16, 2.56e-5, 3_072, 15_992),
    ("clipa-l16-i17-t16", 1, 32_768, 16, 16, 1.024e-3, 1_563, 73_243),
    ("clipa-l16-i17-t16", 2, 7_168, 196, 16, 2.24e-5, 3_571, 18_276),
    ("clipa-l16-i37-t8", 1, 32_768, 36, 8, 1.024e-3, 1_563, 73_243),
    ("clipa-l16-i37-t8", 2, 7_168, 196, 32, 2.24e-5, 3_571, 18_276),
    ("clipav2-h14-70", 1, 65_536, 25, 8, 2.048e-3, 3_200, 195_313),
    ("clipav2-h14-70", 2, 32_768, 179, 32, 5.12e-5, 800, 15_625),
    ("clipav2-h14-84", 1, 65_536, 36, 8, 2.048e-3, 3_200, 195_313),
    ("clipav2-h14-84", 2, 32_768, 179, 32, 5.12e-5, 800, 15_625),
    ("clipav2-h14-336", 1, 65_536, 36, 8, 2.048e-3, 3_200, 195_313),
    ("clipav2-h14-336", 2, 32_768, 179, 32, 5.12e-5, 800, 15_625),
    ("clipav2-h14-336", 3, 16_384, 346, 32, 6.4e-6, 1_600, 7_813),
    ("clipav2-l14-336", 1, 65_536, 36, 8, 2.048e-3, 3_200, 195_313),
    ("clipav2-l14-336", 2, 32_768, 179, 32, 5.12e-5, 800, 15_625),
    ("clipav2-l14-336", 3, 16_384, 346, 32, 6.4e-6, 1_600, 7_813),
    ("emoji", 1, 256, 16, 8, 2e-3, 50, 1_200),
    ("emoji", 2, 256, 45, 24, 2e-4, 15, 150),
]


def test_the_rows_are_all_stages():
    assert [row[:2] for row in ROWS] == [
        (recipe.name, number) for recipe in RECIPES.values() for number in range(1, len(recipe.stages) + 1)
    ]


@pytest.mark.parametrize(("name", "number", "batch", "image", "text", "lr", "warmup", "steps"), ROWS)
def test_each_stage_is_the_papers(name, number, batch, image, text, lr, warmup, steps):
    recipe = RECIPES[name]
    stage, row = recipe.stages[number - 1], recipes.recipe_cost(recipe)[number - 1]
    assert (row.image_tokens, row.text_tokens) == (image, text)
    assert recipes.learning_rate(stage) == pytest.approx(lr, rel=1e-12)
    config = recipes.train_config(recipe, number, "out")
    assert config.lr == recipes.learning_rate(stage)
    assert (config.batch_size, config.warmup_steps, config.max_steps) == (batch, warmup, steps)
    assert config.model == replace(recipe.model, image_size=stage.image_size)
    known = (config.image_keep, config.text_tokens, config.text_masking, config.early_image_size)
    assert known == (stage.image_keep, stage.text_tokens, stage.text_masking, 0)
    assert (config.beta2, config.weight_decay) == ((0.98, 1.0) if name == "emoji" else (0.95, 0.2))
    assert config.muon_lr == ({1: 0.02, 2: 0.002}[number] if name == "emoji" else 0)


def test_syntax_where_captions_have_eight_tokens_in_the_papers():
    found = {r.name: r.stages[0].text_masking for r in RECIPES.values()}
    assert {name for name, masking in found.items() if masking == "syntax"} == {
        "clipa-l16-i37-t8", "clipav2-h14-70", "clipav2-h14-84", "clipav2-h14-336", "clipav2-l14-336",
    }  # fmt: skip
    assert all(stage.text_masking == "truncate" for recipe in RECIPES.values() for stage in recipe.stages[1:])


# GFLOPs of the towers a pair, forward: the first stage's image tokens N and caption L, worked out from
# layers (24 N W^2 + 4 N^2 W) + 6 P^2 N W + 2 W D, and the same without patches for text; then the recipe's A100-hours
COSTS = [
    ("clipa-b16-i50-t16", 9.858990080, 282.8),
    ("clipa-l16-i17-t16", 12.444106752, 458.9),
    ("clipa-l16-i37-t8", 23.291363328, 720.0),
    ("clipav2-h14-70", 36.440160256, 5_898.6),
    ("clipav2-h14-84", 50.407858176, 7_667.3),
    ("clipav2-h14-336", 50.407858176, 8_268.7),
    ("clipav2-l14-336", 23.278092288, 3_839.9),
]


def by_hand(recipe: Recipe, tokens: int, captions: int) -> int:
    m = recipe.model
    w, t, layers = m.image_width, m.text_width, m.image_layers[0]
    image = layers * (24 * tokens * w**2 + 4 * tokens**2 * w) + 2 * w * m.embed_dim
    image += 6 * m.patch_size**2 * (tokens - (m.image_pool == "cls")) * w
    return image + m.text_layers * (24 * captions * t**2 + 4 * captions**2 * t) + 2 * t * m.embed_dim


@pytest.mark.parametrize(("name", "gigaflops", "hours"), COSTS)
def test_each_recipe_s_cost(name, gigaflops, hours):
    recipe = RECIPES[name]
    rows = recipes.recipe_cost(recipe)
    for row, stage in zip(rows, recipe.stages, strict=True):
        assert row.pair_flops == 3 * by_hand(recipe, row.image_tokens, row.text_tokens)
        assert row.loss_flops == 6 * stage.batch_size * recipe.model.embed_dim
        assert row.flops == stage.samples * (row.pair_flops + row.loss_flops)
        assert row.hours == pytest.approx(row.flops / (312e12 * 0.27 * 3600), rel=1e-12)
        assert row.dollars == pytest.approx(1.575 * row.hours, rel=1e-12)
    assert rows[0].pair_flops == pytest.approx(3e9 * gigaflops, abs=0.5)
    assert sum(row.hours for row in rows) == pytest.approx(hours, abs=0.06)


def test_the_device_and_the_price_can_be_chosen():
    (plain, _), (other, _) = recipes.recipe_cost(TINY), recipes.recipe_cost(TINY, peak=1e12, utilisation=0.5, rate=2)
    assert other.hours == pytest.approx(plain.hours * 312e12 * 0.27 / 0.5e12, rel=1e-12)
    assert other.dollars == pytest.approx(2 * other.hours, rel=1e-12)


def test_cost_counts_the_recipes_that_are_here():
    pairs = [
        ("clipav2-h14-70", published.H14, published.CLIPA_H70),
        ("clipav2-h14-84", published.H14, published.CLIPA_84_336[:2]),
        ("clipav2-h14-336", published.H14, published.CLIPA_84_336),
    ]
    for name, shape, phases in pairs:
        recipe = RECIPES[name]
        assert recipes.shape_of(recipe.model) == shape
        length = recipe.model.context_length
        assert phases == tuple(
            cost.Phase(s.samples, s.image_size, s.text_tokens or length, s.image_keep) for s in recipe.stages
        )
    assert {recipe.published for recipe in RECIPES.values() if recipe.published} <= published.PUBLISHED.keys()


def test_shapes_follow_the_defaults_of_the_model():
    assert recipes.shape_of(CLIPConfig("vit")) == cost.Shape(4, 128, 4, 128, 2, 256, "mean")
    model = replace(TINY.model, image_layers=(1, 2), image_pool="map")
    assert recipes.shape_of(model) == cost.Shape(4, 32, 3, 32, 1, 16, "map")
    with pytest.raises(ValueError, match="image_tower 'resnet' has no tokens to count; choose vit"):
        recipes.shape_of(CLIPConfig())


def test_learning_rates_scale_with_the_batch():
    stage = Stage("x", 1, 512, 8, 3e-4, 0)
    assert recipes.learning_rate(stage) == pytest.approx(6e-4, rel=1e-12)
    with pytest.raises(ValueError, match="base_lr is 0; it must be finite and above zero"):
        recipes.learning_rate(replace(stage, base_lr=0))


def test_stages_start_from_the_folder_before(tmp_path):
    first, second = (recipes.train_config(TINY, number, tmp_path) for number in (1, 2))
    assert (first.output_dir, first.init_from) == (str(tmp_path / "1_pretrain"), "")
    assert (second.output_dir, second.init_from) == (str(tmp_path / "2_finetune"), first.output_dir)
    assert (first.model.image_size, second.model.image_size) == (8, 16)
    assert (first.max_steps, second.max_steps) == (6, 4)
    assert second.muon_lr == pytest.approx(0.002 * 8 / 256, rel=1e-12)
    for number in (0, 3):
        with pytest.raises(ValueError, match=f"recipe tiny has no stage {number}; choose 1 to 2"):
            recipes.train_config(TINY, number, tmp_path)


@pytest.mark.parametrize("stopped", [1, 3])  # before the checkpoint of step 2, behind it
def test_a_recipe_trains_its_stages_and_goes_on_where_it_stopped(stopped, tmp_path, tiny_pairs, monkeypatch, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    monkeypatch.chdir(tmp_path)  # the recipe is begun in `parts` and goes on in /.../parts
    first, second = recipes.train_recipe(TINY, whole, tiny_pairs, **QUICK)
    assert (first["max_steps"], second["max_steps"]) == (6, 4)
    assert CLIP.from_pretrained(whole / "2_finetune").config.image_size == 16

    class Stop(Exception):
        pass

    def stop(done, model):
        if done == stopped:
            raise Stop

    train(replace(recipes.train_config(TINY, 1, "parts"), **QUICK), pairs=tiny_pairs)
    with pytest.raises(Stop):
        train(replace(recipes.train_config(TINY, 2, "parts"), **QUICK), stop, pairs=tiny_pairs)
    before = (parts / "1_pretrain" / "metrics.json").stat().st_mtime_ns
    capsys.readouterr()
    recipes.train_recipe(TINY, parts, tiny_pairs, **QUICK)
    assert "1_pretrain is finished" in capsys.readouterr().out
    assert (parts / "1_pretrain" / "metrics.json").stat().st_mtime_ns == before
    losses = [
        [json.loads(line)["loss"] for line in (folder / "2_finetune" / "metrics.jsonl").read_text().splitlines()]
        for folder in (whole, parts)
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 4

    with pytest.raises(ValueError, match=r"1_pretrain holds a finished run with other settings \(seed: 0 -> 1\)"):
        recipes.train_recipe(TINY, parts, tiny_pairs, seed=1, **QUICK)
    again = recipes.train_recipe(TINY, "parts", tiny_pairs, **QUICK)
    assert capsys.readouterr().out.count("is finished") == 2 and len(again) == 2


def test_a_stage_finished_before_a_setting_existed_had_its_default(tmp_path):
    wanted = replace(recipes.train_config(TINY, 1, tmp_path), image_keep=1.0, image_masking="random")
    known = runs.flat(asdict(wanted))
    for name in ("image_keep", "image_masking", "init_from", "augmentation.erase", "model.dropout"):
        del known[name]
    (tmp_path / "config.json").write_text(json.dumps({"train": known, "precision": "fp32"}))
    recipes.check_same(tmp_path, wanted)
    with pytest.raises(ValueError, match=r"other settings \(image_keep: 1.0 -> 0.5; image_masking: random -> grid\)"):
        recipes.check_same(tmp_path, replace(wanted, image_keep=0.5, image_masking="grid"))


def test_the_command_line_prints_costs(capsys):
    recipes.main([])
    out = capsys.readouterr().out
    assert all(f"| {name} | all |" in out for name in RECIPES)
    assert "| clipav2-h14-70 | all | | | 13,312,000,000 | 5,899 | 5,920 | 9,290 | 9,324 |" in out
    assert "| clipa-b16-i50-t16 | all | | | 2,531,000,000 | 283 | 444 | 445 |  |" in out
    assert "| H/14 to H/14 | 14.6 x | FLOPs, all phases |" in out
    recipes.main(["emoji"])
    out = capsys.readouterr().out
    assert "| emoji | finetune | 45 + 24 | 0.286 | 38,400 |" in out and "clipa" not in out


def test_the_command_line_trains(tmp_path, monkeypatch, capsys):
    asked = []
    metrics = [{"max_steps": 6, "train_seconds": 90.0}]
    monkeypatch.setattr(recipes, "train_recipe", lambda *given, **more: asked.append((given, more)) or metrics)
    recipes.main(["emoji", "--output_dir", str(tmp_path), "--seed", "3"])
    assert asked == [((RECIPES["emoji"], str(tmp_path)), {"seed": 3})]
    assert "6 steps in 1.5 minutes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["demo"], "error: unknown recipe 'demo'; choose from"), (["--output_dir", "x"], "error: --output_dir needs a")],
)
def test_the_command_line_names_what_is_wrong(arguments, said):
    with pytest.raises(SystemExit, match=said):
        recipes.main(arguments)
