"""Build the embedded emoji dataset: one concept drawn by seven artists, with its names.

    python data/build_emoji.py            # needs `npm` on the path and `pip install resvg-py`

The parquet files are committed, so nobody has to run this; it is here so that everybody can see
where every pixel and every word came from. Pictures are SVGs of the icon sets in PACKAGES (each
upstream repository's licence is in `data/README.md`), rendered on white at 64 x 64 and stored as
WebP. Names, keywords and groups are Unicode CLDR's, by way of `emojibase-data`.

Which picture shows which concept is decided by code point where the package says it (`chars.json`),
else by the icon's name, which must equal the CLDR name letter for letter (case, spaces and
punctuation aside). An icon that matches nothing is left out rather than guessed.
"""

import argparse
import hashlib
import io
import json
import re
import subprocess
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import resvg_py
from PIL import Image

# artist -> (npm package, pinned version). The first five are trained on; the last two never are.
PACKAGES = {
    "noto": ("@iconify-json/noto", "1.2.9"),
    "blob": ("@iconify-json/noto-v1", "1.2.5"),
    "twemoji": ("@iconify-json/twemoji", "1.2.5"),
    "fluent": ("@iconify-json/fluent-emoji-flat", "1.2.6"),
    "emojione": ("@iconify-json/emojione", "1.2.3"),
    "fxemoji": ("@iconify-json/fxemoji", "1.2.2"),
    "openmoji": ("@iconify-json/openmoji", "1.2.29"),
}
UNSEEN_ARTISTS = ("fxemoji", "openmoji")
NAMES_PACKAGE = ("emojibase-data", "17.0.0")
LANGUAGES = ("en", "de", "es", "fr", "hi", "it", "ja", "ko", "pt", "ru", "th", "uk", "vi", "zh")

SIZE, WEBP_QUALITY = 64, 80
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
COMPONENTS = 2  # emojibase's group of bare skin tones and hair: parts of pictures, not pictures


def fetch(folder: Path) -> Path:
    """Install the pinned npm packages under `folder`; returns its `node_modules`."""
    wanted = [f"{name}@{version}" for name, version in [*PACKAGES.values(), NAMES_PACKAGE]]
    command = ["npm", "install", "--silent", "--no-save", "--ignore-scripts", "--prefix", str(folder)]
    subprocess.run([*command, *wanted], check=True)
    return folder / "node_modules"


def code_point_key(code_points: str) -> str:
    """`1f481-1f3fb-200d-2640-fe0f` -> `1F481-1F3FB-200D-2640`: artists differ in the silent FE0F."""
    return "-".join(part for part in code_points.upper().split("-") if part != "FE0F")


def letters(name: str) -> str:
    """A name without case, spaces and punctuation: how icon names and CLDR names are compared."""
    return re.sub(r"[\W_]", "", name.lower())


def read_concepts(modules: Path) -> list[dict]:
    """Every emoji with its CLDR name, keywords, group and skin tone; toned ones follow their base."""
    root = modules / NAMES_PACKAGE[0]
    meta = json.loads((root / "meta/groups.json").read_text())
    concepts = []
    for base in json.loads((root / "en/data.json").read_text()):
        if base.get("group", COMPONENTS) == COMPONENTS:
            continue
        for entry in [base, *base.get("skins", [])]:
            tone = entry.get("tone", [])
            tones = tone if isinstance(tone, list) else [tone]
            concepts.append(
                {
                    "code_points": entry["hexcode"],
                    "emoji": entry["emoji"],
                    "name": entry["label"],
                    "base_name": base["label"],
                    "keywords": base.get("tags", []),
                    "group": meta["groups"][str(base["group"])],
                    "subgroup": meta["subgroups"][str(base["subgroup"])],
                    "skin_tones": [TONES[t - 1] for t in tones],
                }
            )
    return concepts


def read_names(modules: Path, concepts: list[dict]) -> pa.Table:
    """One row a concept, one column a language (null where CLDR has no name in it)."""
    columns = {"code_points": [c["code_points"] for c in concepts]}
    for language in LANGUAGES:
        entries = json.loads((modules / NAMES_PACKAGE[0] / language / "data.json").read_text())
        every = [e for base in entries for e in [base, *base.get("skins", [])]]
        labels = {code_point_key(e["hexcode"]): e["label"] for e in every}
        columns[language] = [labels.get(code_point_key(c["code_points"])) or None for c in concepts]
    return pa.table(columns)


def read_icons(modules: Path, package: str, concepts: list[dict]) -> dict[str, str]:
    """code points -> SVG text, for the concepts that this artist drew."""
    root = modules / package
    icons = json.loads((root / "icons.json").read_text())
    chars = json.loads((root / "chars.json").read_text())
    by_code = {code_point_key(code): name for code, name in chars.items()}
    by_name = {letters(name): name for name in [*icons.get("aliases", {}), *icons["icons"]]}
    found = {}
    for concept in concepts:
        if by_code:
            name = by_code.get(code_point_key(concept["code_points"]))
        else:
            name = by_name.get(letters(concept["name"]))
        if name is not None:
            found[concept["code_points"]] = icon_to_svg(icons, name)
    return found


def icon_to_svg(icons: dict, name: str) -> str:
    """The SVG of one Iconify icon; an alias is its parent, perhaps mirrored."""
    alias = icons.get("aliases", {}).get(name, {})
    icon = icons["icons"][alias.get("parent", name)]
    defaults = {"left": 0, "top": 0, "width": 16, "height": 16}
    left, top, width, height = (icon.get(key, icons.get(key, default)) for key, default in defaults.items())
    body = icon["body"]
    unsupported = set(alias) & {"vFlip", "rotate", "width", "height", "left", "top"}
    if unsupported:
        raise ValueError(f"icon {name!r} uses {sorted(unsupported)}, which this script does not draw")
    if alias.get("hFlip"):
        body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left} {top} {width} {height}">{body}</svg>'


def render(svg: str) -> bytes:
    """SVG -> WebP bytes, SIZE x SIZE on white, the whole picture in sight."""
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE))
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    canvas = Image.new("RGBA", (SIZE, SIZE), "white")
    canvas.alpha_composite(picture, ((SIZE - picture.width) // 2, (SIZE - picture.height) // 2))
    out = io.BytesIO()
    canvas.convert("RGB").save(out, "webp", quality=WEBP_QUALITY, method=6)
    return out.getvalue()


def one_in(n: int, *key: str) -> bool:
    """True for a fixed 1/n of all keys, the same on every machine and in every version."""
    return int(hashlib.sha256("|".join(key).encode()).hexdigest(), 16) % n == 0


def held_out(concept: dict) -> bool:
    """One in ten of the compositions person x profession (or activity) x one skin tone.

    Their parts stay in training: the person and the profession in other tones, the tone on other people.
    """
    person = concept["subgroup"] in ("person-role", "person-activity", "person-sport")
    return person and len(concept["skin_tones"]) == 1 and one_in(10, "composition", concept["name"])


def split_of(concept: dict, artist: str) -> str:
    """The split that a picture belongs to; see the dataset card."""
    if artist in UNSEEN_ARTISTS:
        return artist
    if held_out(concept):
        return "held_out_compositions"
    return "in_distribution" if one_in(10, artist, concept["name"]) else "train"


def write(table: pa.Table, path: Path) -> None:
    """Write `path` whole or not at all."""
    part = path.with_suffix(".part")
    pq.write_table(table, part, compression="zstd", row_group_size=1000)
    part.replace(path)


def main() -> None:
    """Fetch, render, write."""
    parser = argparse.ArgumentParser(description="Build the embedded emoji dataset.")
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        modules = fetch(Path(folder))
        concepts = read_concepts(modules)
        names = read_names(modules, concepts)
        icons = {artist: read_icons(modules, package, concepts) for artist, (package, _) in PACKAGES.items()}
    rows: dict[str, list[dict]] = {}
    for artist, svgs in icons.items():
        for concept in concepts:
            if concept["code_points"] in svgs:
                image = {"bytes": render(svgs[concept["code_points"]]), "path": None}
                rows.setdefault(split_of(concept, artist), []).append({"image": image, "artist": artist, **concept})
        print(f"{artist:10s} {len(svgs):5d} pictures", flush=True)
    # `datasets` reads this note and decodes the column as pictures.
    features = {"info": {"features": {"image": {"_type": "Image"}}}}
    text = {"dtype": "string", "_type": "Value"}
    for key in ("artist", "code_points", "emoji", "name", "base_name", "group", "subgroup"):
        features["info"]["features"][key] = text
    for key in ("keywords", "skin_tones"):
        features["info"]["features"][key] = {"feature": text, "_type": "List"}
    string, strings = pa.string(), pa.list_(pa.string())
    schema = pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", string)])), ("artist", string), ("code_points", string)]
        + [("emoji", string), ("name", string), ("base_name", string), ("keywords", strings)]
        + [("group", string), ("subgroup", string), ("skin_tones", strings)],
        metadata={"huggingface": json.dumps(features)},
    )
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for split, split_rows in rows.items():
        write(pa.Table.from_pylist(split_rows, schema=schema), args.output_dir / f"{split}.parquet")
        print(f"{split:22s} {len(split_rows):6d} rows")
    write(names, args.output_dir / "names.parquet")
    print(f"{'names':22s} {names.num_rows:6d} rows, {len(LANGUAGES)} languages")


if __name__ == "__main__":
    main()
