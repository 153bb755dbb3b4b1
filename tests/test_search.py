"""Search in one's own folder: against brute force, after interruptions, and with files of all kinds."""

import importlib.util
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import assert_close, png
from PIL import Image
from safetensors.torch import save_file

from minclip import search
from minclip.checkpoint import DiskError
from minclip.clip import CLIPConfig, build_clip
from minclip.data import plain
from minclip.retrieval import nearest
from minclip.runs import run_command
from minclip.sources import decode_picture
from minclip.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[1]
N = 23  # pictures of the folder, in three places


def small_model(seed: int = 0, **changes):
    """Random weights; dropout is on, so whoever forgets evaluation mode gets other numbers each time."""
    torch.manual_seed(seed)
    shape = dict(image_size=16, image_width=32, image_layers=(1,), context_length=12, vocab_size=300, text_width=32)
    shape |= dict(image_tower="vit", text_layers=1, embed_dim=16, dropout=0.3) | changes
    model = build_clip(CLIPConfig(**shape))
    torch.nn.init.normal_(model.text_tower.token_embedding.weight)
    return model


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["a red cat", "a blue boat", "one small star"], 300)


@pytest.fixture
def model():
    return small_model()


@pytest.fixture
def folder(tmp_path):
    """PNG, JPEG and WebP of several sizes, two levels deep."""
    place = tmp_path / "pictures"
    for i in range(N):
        kind, size = ("png", "jpeg", "webp")[i % 3], 12 + 3 * (i % 7)
        file = place / ("" if i < 10 else "sub" if i < 20 else "sub/deeper") / f"{i:02d}.{kind}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.open(io.BytesIO(png(i, size))).save(file, kind)
    return place


@pytest.fixture
def embedded(monkeypatch):
    """How many pictures went through the tower, call by call; and four of them make a file of the index."""
    counts, embed = [], search.embed_images

    def counting(model, images, *rest):
        counts.append(len(images))
        return embed(model, images, *rest)

    monkeypatch.setattr(search, "embed_images", counting)
    monkeypatch.setattr(search, "PART", 4)
    return counts


@torch.no_grad()
def brute_force(model, file: Path) -> torch.Tensor:
    """One picture at a time: [D]."""
    picture = plain(decode_picture(file.read_bytes(), model.config.image_size)[None], model.config.image_size)
    return model.eval().encode_image(picture)[0]


def pictures_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def same_index(one, other) -> bool:
    return one[0] == other[0] and torch.equal(one[1], other[1])


# ---- what is found


def test_the_ranking_is_that_of_brute_force_cosines(model, tokenizer, folder, tmp_path):
    files, gallery = search.index_folder(model, folder, tmp_path / "cache")
    assert files == pictures_of(folder) and gallery.dtype == torch.float32
    by_hand = torch.stack([brute_force(model, file) for file in files])
    torch.testing.assert_close(gallery, by_hand, atol=1e-6, rtol=0)

    queries = ["a red cat", "boat", "something else"]
    scores, rows = nearest(search.embed_queries(model, tokenizer, queries), gallery, N)
    for query, found, order in zip(queries, scores, rows):
        with torch.no_grad():
            text = model.encode_text(tokenizer([query], 12))[0]
        cosines = torch.stack([picture @ text for picture in by_hand])
        torch.testing.assert_close(found, cosines.sort(descending=True).values, atol=1e-6, rtol=0)
        assert order.tolist() == sorted(range(N), key=lambda i: -(gallery[i] @ text).item())


def test_a_float64_model_is_asked_in_its_own_precision(tokenizer, folder, tmp_path):
    model = small_model().double()
    files, gallery = search.index_folder(model, folder, tmp_path)
    with torch.no_grad():
        pictures = torch.stack([decode_picture(file.read_bytes(), 16) for file in files])
        exact = model.eval().encode_image(plain(pictures, 16).double())
    assert_close(gallery.double(), exact.float().double())
    assert search.embed_queries(model, tokenizer, ["cat"]).dtype == torch.float32


def test_a_picture_finds_itself_first(model, tokenizer, folder, tmp_path):
    files, gallery = search.index_folder(model, folder, tmp_path / "cache")
    asked = [str(files[5]), str(files[17])]
    scores, rows = nearest(search.embed_queries(model, tokenizer, ["cat"], asked), gallery, 2)
    assert rows[1:, 0].tolist() == [5, 17]
    torch.testing.assert_close(scores[1:, 0], torch.ones(2), atol=1e-5, rtol=0)


# ---- the index


def test_the_second_call_embeds_nothing_and_says_the_same(model, folder, tmp_path, embedded):
    first = search.index_folder(model, folder, tmp_path)
    assert sum(embedded) == N and max(embedded) == 4
    assert same_index(search.index_folder(model, folder, tmp_path), first) and sum(embedded) == N


def test_new_changed_and_deleted_files_are_noticed(model, folder, tmp_path, embedded):
    cache = tmp_path / "cache"
    search.index_folder(model, folder, cache)
    files = pictures_of(folder)
    (folder / "new.png").write_bytes(png(100))
    files[3].unlink()
    for file, content, later in ((files[7], png(101, 20), 0), (files[0], files[0].read_bytes(), 1)):
        before = file.stat()
        file.write_bytes(content)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + later))  # another size; another time
        assert (file.stat().st_size != before.st_size) == (later == 0)
    embedded.clear()
    again = search.index_folder(model, folder, cache)
    assert sum(embedded) == 3 and again[0] == pictures_of(folder)
    assert same_index(again, search.index_folder(model, folder, tmp_path / "fresh"))


def test_another_tower_or_folder_has_an_index_of_its_own(folder, tmp_path, embedded):
    models = [small_model(0), small_model(1), small_model(0, image_mean=(0.4, 0.4, 0.4)), small_model(0).double()]
    found = [search.index_folder(model, folder, tmp_path / "cache")[1] for model in models]
    assert sum(embedded) == 4 * N and not torch.equal(found[0], found[1])
    folder.rename(tmp_path / "elsewhere")
    search.index_folder(models[0], tmp_path / "elsewhere", tmp_path / "cache")
    assert sum(embedded) == 5 * N


def test_an_interruption_costs_at_most_what_was_not_yet_written(model, folder, tmp_path, embedded, monkeypatch):
    whole = search.index_folder(model, folder, tmp_path / "whole")
    embedded.clear()
    write, written = search.write_part, []

    def third_time_interrupted(*arguments):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(write(*arguments))

    monkeypatch.setattr(search, "write_part", third_time_interrupted)
    with pytest.raises(KeyboardInterrupt):
        search.index_folder(model, folder, tmp_path / "cut")
    assert sum(embedded) == 12
    monkeypatch.setattr(search, "write_part", write)
    embedded.clear()
    resumed = search.index_folder(model, folder, tmp_path / "cut")
    assert sum(embedded) == N - 8 and resumed[0] == whole[0]
    torch.testing.assert_close(resumed[1], whole[1], atol=1e-6, rtol=0)


KILLED = """
import sys, time, torch
from minclip import search
from minclip.clip import CLIP
embed = search.embed_images
def slowly(*arguments):
    time.sleep(0.2)
    return embed(*arguments)
search.embed_images, search.PART = slowly, 4
search.index_folder(CLIP.from_pretrained(sys.argv[1]), sys.argv[2], sys.argv[3])
"""


def test_a_killed_process_goes_on_where_it_was(model, folder, tmp_path, embedded):
    model.save_pretrained(tmp_path / "model")
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", KILLED, tmp_path / "model", folder, cache]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(cache.glob("*/*.safetensors"))) < 2 and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    written = len(list(cache.glob("*/*.safetensors")))
    next(cache.iterdir()).joinpath("1_1.safetensors.part").write_bytes(b"half of a fi")  # as if while it was writing
    resumed = search.index_folder(model, folder, cache)
    assert 2 <= written < 6 and sum(embedded) == N - 4 * written
    assert resumed[0] == pictures_of(folder)
    torch.testing.assert_close(resumed[1], torch.stack([brute_force(model, f) for f in resumed[0]]), atol=1e-6, rtol=0)


DAMAGE = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-10]),
    "empty": lambda file: file.write_bytes(b""),
    "noise": lambda file: file.write_bytes(os.urandom(2000)),
    "no list": lambda file: save_file({"features": torch.eye(16)}, file),
    "short list": lambda file: save_file({"features": torch.eye(16)}, file, {"pictures": '["a"]'}),
    "no vectors": lambda file: save_file({"pixels": torch.eye(16)}, file, {"pictures": "[]"}),
    "no numbers": lambda file: file.write_bytes(file.read_bytes()[:-64] + b"\xff" * 64),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_index_is_named_and_mended(kind, model, folder, tmp_path, embedded, capsys):
    first = search.index_folder(model, folder, tmp_path)
    file = sorted(tmp_path.glob("*/*.safetensors"))[1]
    DAMAGE[kind](file)
    embedded.clear()
    again = search.index_folder(model, folder, tmp_path)
    assert sum(embedded) == 4 and same_index(again, first)
    assert f"{file} is damaged" in capsys.readouterr().err


def test_nothing_is_written_among_the_pictures(model, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    before = sorted(folder.rglob("*"))
    search.index_folder(model, folder)
    assert sorted(folder.rglob("*")) == before
    assert list((tmp_path / "home/minclip/search").glob("*/*.safetensors"))
    assert not list(tmp_path.rglob("*.part"))


# ---- files of all kinds


def test_what_cannot_be_read_is_left_out_and_named(model, folder, tmp_path, capsys):
    outside = tmp_path / "outside.png"
    outside.write_bytes(png(200))
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "cut.png").write_bytes(png(201)[:100])
    (folder / "leads_out.png").symlink_to(outside)
    (folder / "leads_nowhere.png").symlink_to(folder / "gone.png")
    (folder / "inside.png").symlink_to(folder / "00.png")
    (folder / ".hidden.png").write_bytes(png(202))
    (folder / ".git").mkdir()
    (folder / ".git" / "picture.png").write_bytes(png(203))
    (folder / "notes.txt").write_text("no picture either")
    (folder / "odd\n\x1b[2Jname.PNG").write_bytes(png(204))
    (folder / "odd\n\x1b[2Jbroken.PNG").write_bytes(b"x")
    files, gallery = search.index_folder(model, folder, tmp_path / "cache")
    told = capsys.readouterr().err
    assert len(files) == len(gallery) == N + 2
    assert {folder / "inside.png", folder / "odd\n\x1b[2Jname.PNG"} < set(files)
    assert "5 rows were skipped" in told and "\x1b" not in told
    assert all(name in told for name in ("broken.jpg", "cut.png", "leads_out.png: ", "leads_nowhere.png", "[2Jbroken"))
    assert ".hidden" not in told and ".git" not in told and "notes" not in told


def test_a_name_that_is_no_unicode_is_found_again(model, folder, tmp_path, embedded):
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.png")).write_bytes(png(1))
    except OSError:
        pytest.skip("this file system allows no such name")
    first = search.index_folder(model, folder, tmp_path / "cache")
    assert len(first[0]) == N + 1 and same_index(search.index_folder(model, folder, tmp_path / "cache"), first)
    assert sum(embedded) == N + 1


def test_a_folder_that_is_none_or_empty_is_refused(model, tmp_path):
    for place in (tmp_path / "missing", tmp_path):
        with pytest.raises(ValueError, match="no folder .*, or no picture in it"):
            search.index_folder(model, place, tmp_path / "cache")
    (tmp_path / "broken.png").write_bytes(b"x")
    with pytest.raises(ValueError, match="no picture in .* can be read"):
        search.index_folder(model, tmp_path, tmp_path / "cache")


def test_a_place_that_cannot_hold_an_index_is_named(model, folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskError, match="cannot be made.*--index"):
        search.index_folder(model, folder, tmp_path / "file")


def test_an_empty_query_is_refused(model, tokenizer, folder, tmp_path):
    for queries in ([], [" "], ["cat", ""]):
        with pytest.raises(ValueError, match="a query is empty"):
            search.embed_queries(model, tokenizer, queries)
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="no picture"):
        search.embed_queries(model, tokenizer, [], [str(tmp_path / "x.png")])


# ---- the command


@pytest.fixture
def call(model, tokenizer, folder, tmp_path, monkeypatch):
    """The command line with a model and a folder, in a working folder of its own."""
    model.save_pretrained(tmp_path / "run")
    tokenizer.save(tmp_path / "run" / "tokenizer.json")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*flags: str, model=tmp_path / "run", images=folder) -> None:
        monkeypatch.setattr(sys, "argv", ["search", *flags, "--model", str(model), "--images", str(images)])
        run_command(search.search_folder)

    return run


def test_the_command_prints_a_table_and_draws_the_contact_sheet(call, folder, capsys):
    call("a red cat", "costs $x_{ or $5", "--like", str(folder / "00.png"), "--top", "4")
    told = capsys.readouterr().out
    assert told.count("rank  score  file") == 3 and f"{N} pictures were asked in " in told
    assert f"   1  1.000  '{folder / '00.png'}'" in told
    assert [line.split()[0] for line in told.splitlines() if line.endswith("'")] == ["1", "2", "3", "4"] * 3
    with Image.open("minclip_search.png") as sheet:
        sheet.load()
        assert sheet.format == "PNG"
        three_rows = sheet.size
    call("a red cat", "--top", "4", "--output", "one.png")
    with Image.open("one.png") as sheet:
        assert sheet.height < three_rows[1] / 2 < sheet.height * 2 and sheet.width > 4 * 0.5 * 150  # 150 dots an inch
    assert sorted(os.listdir()) == ["minclip_search.png", "one.png"]


def test_the_contact_sheet_shows_what_was_found(folder):
    files = pictures_of(folder)
    scores, rows = torch.tensor([[0.9, 0.5], [0.7, -0.1]]), torch.tensor([[3, 0], [7, 3]])
    figure = search.draw_results(files, ["cat", "boat"], scores, rows)
    assert [axes.get_title() for axes in figure.axes] == ["0.90", "0.50", "0.70", "-0.10"]
    for axes, row in zip(figure.axes, rows.flatten().tolist()):
        shown = torch.tensor(axes.images[0].get_array())
        assert torch.equal(shown, decode_picture(files[row].read_bytes(), search.THUMBNAIL).permute(1, 2, 0))


def test_more_pictures_than_there_are_gives_all(call, capsys):
    call("cat", "--top", "1000")
    assert f"\n  {N}  " in capsys.readouterr().out


def test_queries_are_read_from_the_standard_input_and_the_model_is_loaded_once(call, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("a red cat\nboat\n"))
    call()
    told = capsys.readouterr().out
    assert told.count("pictures were asked in") == 2 and "\nboat\nrank" in told


def test_bad_input_ends_the_command_with_one_clear_line(call, tmp_path):
    for flags, places, said in (
        ([""], {}, "a query is empty"),
        (["cat"], {"images": tmp_path / "missing"}, "no folder"),
        (["cat"], {"model": tmp_path / "missing"}, "missing"),
        (["cat", "--top", "0"], {}, "k 0 is not within"),
        (["cat", "--output", str(tmp_path / "missing" / "x.png")], {}, "could not be written"),
        (["--like", "gone.png"], {}, "gone.png"),
    ):
        with pytest.raises(SystemExit, match=f"^error: .*{said}"):
            call(*flags, **places)


def test_the_benchmark_measures_what_it_says(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("bench_search", ROOT / "benchmarks" / "search.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    flags = ["--count", "100", "--repetitions", "1", "--models", "demo", "--output", str(tmp_path / "bench.json")]
    row = bench.main(flags)["models"]["demo"]
    assert row["pictures"] == 100 and row["ratio"] == row["index_seconds"][0] / row["tower_seconds"][0] > 0
    bench.make_folder(tmp_path / "folder", 100)
    sizes = [Image.open(file).size for file in pictures_of(tmp_path / "folder")]
    assert {size: sizes.count(size) for size in set(sizes)} == {
        (64, 64): 40, (128, 128): 30, (256, 256): 29, (1600, 1200): 1,
    }  # fmt: skip
    assert (tmp_path / "bench.json").exists()
