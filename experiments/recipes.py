"""CLIPA's and CLIPA-v2's training recipes as data, what they cost, and one of ours that a laptop trains.

    python -m experiments.recipes                                  # all of them: tokens, FLOPs, hours, dollars
    python -m experiments.recipes emoji --output_dir runs/clipa    # its cost, then its stages, one after the other

Every recipe has the same form: most samples are seen with few tokens, the last few with many, at a lower learning
rate, from the weights of the stage before.
"""

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import cost, published
from minclip import runs
from minclip.clip import IMAGE_TOWERS, CLIPConfig
from minclip.data import Pairs

if TYPE_CHECKING:
    from minclip.train import TrainConfig


@dataclass(frozen=True)
class Stage:
    """One training run of a recipe.

    samples: pairs seen; base_lr, base_muon_lr: learning rates per 256 pairs (Muon's: 0 leaves all to AdamW);
    image_size: pixels; text_tokens: 0 for all, start and end counted. The rest as in `TrainConfig`.
    """

    name: str
    samples: float
    batch_size: int
    image_size: int
    base_lr: float
    warmup_steps: int
    image_keep: float = 1.0
    image_masking: str = "random"
    text_tokens: int = 0
    text_masking: str = "truncate"
    base_muon_lr: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """Stages that follow each other, and the model that they train.

    model: its image_size is the last stage's; each stage has its own. published: a row of
    `experiments.published.PUBLISHED`, or "".
    """

    name: str
    source: str
    model: CLIPConfig
    stages: tuple[Stage, ...]
    published: str = ""
    data: str = "emoji"
    beta2: float = 0.95
    weight_decay: float = 0.2


@dataclass(frozen=True)
class StageCost:
    """What one stage costs. tokens: a picture's and a caption's; flops: towers and loss, forward and backward."""

    name: str
    image_tokens: int
    text_tokens: int
    pair_flops: float
    loss_flops: float
    samples: float
    flops: float
    hours: float
    dollars: float


def learning_rate(stage: Stage) -> float:
    """base_lr x batch_size / 256: linear scaling, as the papers do."""
    cost.check_positive(batch_size=stage.batch_size, base_lr=stage.base_lr)
    return stage.base_lr * stage.batch_size / 256


def shape_of(model: CLIPConfig) -> cost.Shape:
    """The part of a configuration that fixes its FLOPs. Raises ValueError for a ResNet, whose cost is not modelled."""
    if model.image_tower != "vit":
        raise ValueError(f"image_tower {model.image_tower!r} has no tokens to count; choose vit")
    width, layers = IMAGE_TOWERS["vit"]
    width, layers = model.image_width or width, sum(model.image_layers or layers)
    text = (model.text_width, model.text_layers, model.embed_dim)
    return cost.Shape(model.patch_size, width, layers, *text, pool=model.image_pool)


def stage_cost(
    recipe: Recipe, stage: Stage, peak: float = cost.A100_PEAK, utilisation: float = cost.A100_UTILISATION,
    rate: float = cost.A100_RATE,
) -> StageCost:  # fmt: skip
    """The cost of one stage. peak: FLOP/s of a device; utilisation: the share reached; rate: dollars an hour."""
    model, shape = recipe.model, shape_of(recipe.model)
    text_tokens = min(stage.text_tokens or model.context_length, model.context_length)
    tokens = cost.image_tokens(
        stage.image_size, model.patch_size, stage.image_keep, model.image_pool, stage.image_masking
    )
    forward = cost.image_flops(shape, stage.image_size, stage.image_keep, stage.image_masking)
    towers = cost.training_flops(forward + cost.text_flops(shape, text_tokens))
    loss = cost.loss_flops(stage.batch_size, model.embed_dim) / stage.batch_size  # a pair's share
    flops = stage.samples * (towers + loss)
    hours = cost.device_hours(flops, peak, utilisation)
    return StageCost(
        stage.name, tokens, text_tokens, towers, loss, stage.samples, flops, hours, cost.dollars(hours, rate)
    )


def recipe_cost(recipe: Recipe, **device: float) -> list[StageCost]:
    """The cost of each stage; device: peak, utilisation, rate, as in `stage_cost`."""
    return [stage_cost(recipe, stage, **device) for stage in recipe.stages]


# The recipes


def clipa(name: str, source: str, size: str, patch_size: int, *stages: Stage, **changes: object) -> Recipe:
    """A recipe of the papers: their towers, as far as `CLIPConfig` has them.

    Ours differ in what costs nothing or little: `heads` is one number for both towers (B/16 has 12 and 8, L 16 and
    12), the text tower is causal and pools at the end token (v2's is not, and pools the last), there is a norm before
    the blocks, and where the tower pools by the mean we have no class token (I17 and I37 count one).
    """
    image_width, image_layers, heads, text_width, text_layers, embed_dim = {
        "B": (768, 12, 8, 512, 12, 512), "L": (1024, 24, 16, 768, 12, 768), "H": (1280, 32, 16, 1024, 24, 1024),
    }[size]  # fmt: skip
    model = CLIPConfig(
        "vit", image_size=stages[-1].image_size, image_width=image_width, image_layers=(image_layers,),
        patch_size=patch_size, image_positions="sincos", text_width=text_width, text_layers=text_layers, heads=heads,
        embed_dim=embed_dim,
    )  # fmt: skip
    return Recipe(name, source, replace(model, **changes), stages, published=name)


def v1_stages(batch_size: int, image_size: int, text_tokens: int, warmups: tuple[int, int], tune: Stage) -> tuple:
    """CLIPA's two stages: six epochs of LAION-400M (nominal: 2.4 B) with few tokens, then 131 M samples with all."""
    masking = "syntax" if text_tokens == 8 else "truncate"
    few = Stage(
        "pretrain", 2.4e9, batch_size, image_size, 8e-6, warmups[0], text_tokens=text_tokens, text_masking=masking
    )
    return few, replace(tune, warmup_steps=warmups[1])


def v2_stages(image_size: int, *more: Stage) -> tuple[Stage, ...]:
    """CLIPA-v2's: 12.8 B samples of DataComp-1B with few tokens, 512 M at 224 px with 70 % of the patches, and more."""
    few = Stage("pretrain", 12.8e9, 65_536, image_size, 8e-6, 3_200, text_tokens=8, text_masking="syntax")
    return few, Stage("finetune", 512e6, 32_768, 224, 4e-7, 800, image_keep=0.7), *more


TUNE_B, TUNE_L = Stage("finetune", 131e6, 8_192, 224, 8e-7, 0), Stage("finetune", 131e6, 7_168, 224, 8e-7, 0)
TUNE_336 = Stage("finetune_336", 128e6, 16_384, 336, 1e-7, 1_600, image_keep=0.6)
V1, V2 = "CLIPA, open_clip's scripts and model_configs", "CLIPA-v2, the authors' JAX configs; open_clip's model_configs"
BPE, WORDPIECE = {"vocab_size": 49_408}, {"context_length": 32, "vocab_size": 32_000}
RECIPES = {
    recipe.name: recipe
    for recipe in (
        clipa("clipa-b16-i50-t16", V1, "B", 16, *v1_stages(65_536, 112, 16, (782, 3_072), TUNE_B),
              image_pool="cls", context_length=16, **BPE),
        clipa("clipa-l16-i17-t16", V1, "L", 16, *v1_stages(32_768, 64, 16, (1_563, 3_571), TUNE_L),
              context_length=16, **BPE),
        clipa("clipa-l16-i37-t8", V1, "L", 16, *v1_stages(32_768, 96, 8, (1_563, 3_571), TUNE_L),
              context_length=32, **BPE),
        clipa("clipav2-h14-70", V2, "H", 14, *v2_stages(70), **WORDPIECE),
        clipa("clipav2-h14-84", V2, "H", 14, *v2_stages(84), **WORDPIECE),
        clipa("clipav2-h14-336", V2, "H", 14, *v2_stages(84, TUNE_336), **WORDPIECE),
        clipa("clipav2-l14-336", V2, "L", 14, *v2_stages(84, TUNE_336), **WORDPIECE),
        Recipe(
            "emoji", "ours: minutes on two CPU cores",
            CLIPConfig("vit", image_size=32, image_width=128, image_layers=(4,), image_positions="sincos"),
            (Stage("pretrain", 256 * 1_200, 256, 16, 2e-3, 50, text_tokens=8, base_muon_lr=0.02),
             Stage("finetune", 256 * 150, 256, 32, 2e-4, 15, image_keep=0.7, base_muon_lr=0.002)),
            beta2=0.98, weight_decay=1.0,
        ),
    )
}  # fmt: skip


# Training


def folders(recipe: Recipe, output_dir: str | Path) -> list[Path]:
    """Where each stage is kept: `output_dir/1_pretrain`, `2_finetune`, ..."""
    return [Path(output_dir) / f"{number}_{stage.name}" for number, stage in enumerate(recipe.stages, 1)]


def train_config(recipe: Recipe, number: int, output_dir: str | Path) -> "TrainConfig":
    """The run of stage `number` (from 1). It starts from the folder of the stage before, the first from nothing."""
    from minclip.train import TrainConfig

    if not 1 <= number <= len(recipe.stages):
        raise ValueError(f"recipe {recipe.name} has no stage {number}; choose 1 to {len(recipe.stages)}")
    stage, kept = recipe.stages[number - 1], folders(recipe, output_dir)
    return TrainConfig(
        model=replace(recipe.model, image_size=stage.image_size),
        data=recipe.data,
        output_dir=str(kept[number - 1]),
        init_from=str(kept[number - 2]) if number > 1 else "",
        batch_size=stage.batch_size,
        max_steps=cost.steps(stage.samples, stage.batch_size),
        early_image_size=0,
        image_keep=stage.image_keep,
        image_masking=stage.image_masking,
        text_tokens=stage.text_tokens,
        text_masking=stage.text_masking,
        lr=learning_rate(stage),
        muon_lr=stage.base_muon_lr * stage.batch_size / 256,
        warmup_steps=stage.warmup_steps,
        beta2=recipe.beta2,
        weight_decay=recipe.weight_decay,
    )


def train_recipe(recipe: Recipe, output_dir: str | Path, pairs: Pairs | None = None, **changes: object) -> list[dict]:
    """Train all stages; returns the `metrics.json` of each.

    A finished stage is not run again, an unfinished one goes on from its checkpoint, or begins anew before its first
    one. pairs: instead of the recipe's data; changes: fields of TrainConfig for every stage, such as seed or
    precision. Raises ValueError when a stage was run or begun with other settings.
    """
    from minclip.train import train

    for number, folder in enumerate(folders(recipe, output_dir), 1):
        config = replace(train_config(recipe, number, output_dir), **changes)
        if (folder / "metrics.json").exists():
            check_same(folder, config)
            print(f"{folder} is finished")
            continue
        print(f"{folder}: {config.max_steps} steps, learning rate {config.lr:.3g}")
        train(replace(config, resume=(folder / "config.json").exists()), pairs=pairs)
    return [json.loads((folder / "metrics.json").read_text()) for folder in folders(recipe, output_dir)]


def check_same(folder: Path, config: "TrainConfig") -> None:
    """Raise ValueError when the finished run in `folder` had other settings than `config`, naming them."""
    from minclip.train import TrainConfig

    if changed := runs.changes(folder, asdict(config), asdict(TrainConfig())):
        raise ValueError(
            f"{folder} holds a finished run with other settings ({'; '.join(changed)}); use another folder"
        )


# The tables


def table(recipes: Sequence[Recipe]) -> str:
    """Each recipe's stages and their sum as a markdown table, with the published hours and dollars beside it."""
    lines = [
        "| recipe | stage | tokens, image + text | GFLOPs a pair | samples | A100-hours | published | $ | published |",
        "|" + "---|" * 9,
    ]
    for recipe in recipes:
        stages = recipe_cost(recipe)
        for stage in stages:
            gigaflops = (stage.pair_flops + stage.loss_flops) / 1e9
            lines.append(
                f"| {recipe.name} | {stage.name} | {stage.image_tokens} + {stage.text_tokens} | {short(gigaflops)} "
                f"| {stage.samples:,.0f} | {short(stage.hours)} | | {short(stage.dollars)} | |"
            )
        row = published.PUBLISHED.get(recipe.published)
        hours, price = (sum(getattr(stage, key) for stage in stages) for key in ("hours", "dollars"))
        lines.append(
            f"| {recipe.name} | all | | | {sum(stage.samples for stage in stages):,.0f} "
            f"| {short(hours)} | {short(row and row.gpu_hours)} | {short(price)} | {short(row and row.dollars)} |"
        )
    peak, share = cost.A100_PEAK / 1e12, cost.A100_UTILISATION
    lines += [
        "",
        f"GFLOPs: forward and backward, loss included. Hours at {share:.0%} of {peak:.0f} TFLOP/s; dollars at ",
    ]
    lines[-1] += f"{cost.A100_RATE} an hour."
    return "\n".join(lines)


def short(value: float | None) -> str:
    """A number for a table: whole from 100 on, three digits below; nothing for None."""
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def comparison_table() -> str:
    """`published.comparisons` as a markdown table."""
    rows = [f"| {ratio.compared} | {ratio.times:.1f} x | {ratio.by} |" for ratio in published.comparisons()]
    return "\n".join(["| OpenCLIP to CLIPA | costs | counted by |", "|---|---|---|", *rows])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: no recipe prints all; a recipe prints its cost and, with --output_dir, is trained."""
    parser = ArgumentParser(prog="python -m experiments.recipes", description=__doc__.split("\n")[0])
    parser.add_argument("recipe", nargs="?", help=", ".join(RECIPES))
    parser.add_argument("--output_dir", default="", help="train the recipe, each stage in a folder of its own here")
    parser.add_argument("--seed", type=int, default=0, help="fixes weights, batches, augmentation and masks")
    given = parser.parse_args(arguments)
    try:
        if not given.recipe and given.output_dir:
            raise ValueError(f"--output_dir needs a recipe to train; choose from {', '.join(RECIPES)}")
        if given.recipe and given.recipe not in RECIPES:
            raise ValueError(f"unknown recipe {given.recipe!r}; choose from {', '.join(RECIPES)}")
        if not given.recipe:
            print(table(list(RECIPES.values())), comparison_table(), sep="\n\n")
            return
        recipe = RECIPES[given.recipe]
        print(table([recipe]))
        if given.output_dir:
            for metrics in train_recipe(recipe, given.output_dir, seed=given.seed):
                print(f"{metrics['max_steps']} steps in {metrics['train_seconds'] / 60:.1f} minutes")
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
