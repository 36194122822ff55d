"""What of the releases is on disk, what the archives say of them, and what a run would fetch; files themselves are never asked for."""

import csv
import http.server
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from tullyflow.cli import main
from tullyflow.fetch.archives import check_archives, holdings
from tullyflow.settings import parse_settings
from tullyflow.surveys.releases import release_rows

TABLE = str(Path(__file__).resolve().parents[2] / "config" / "releases.csv")
COLUMNS = ("survey", "release", "dataset", "version", "url", "sha256", "added", "note")


def configure(**data):
    return parse_settings({"releases": TABLE, **data}, source="my.yaml")


def write_releases(path: Path, *rows: tuple) -> str:
    with open(path, "w", newline="") as handle:
        csv.writer(handle).writerows([COLUMNS, *((*row, "", "2020-01-01", "") for row in rows)])
    return str(path)


def test_files_on_disk_are_counted_under_the_release_that_keeps_them(tmp_path, capsys):
    files = {
        "maps/1/2/manga-1-2-MAPS-HYB.fits.gz": 100, "maps/1/2/.manga-1-3-MAPS-HYB.fits.gz.part": 7, "catalogues/drpall-v2_4_3.fits": 30,
        "logcube/1/2/manga-1-2-LOGCUBE.fits.gz": 5, "modelcube/1/2/manga-1-2-LOGCUBE-HYB.fits.gz": 6,
    }  # fmt: skip
    for name, size in files.items():
        path = tmp_path / "resources/manga/DR15" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    found = {
        (h.release, h.dataset): (h.files, h.bytes)
        for h in holdings(configure(resources=str(tmp_path / "resources")))
        if h.survey == "manga"
    }
    for release in ("DR15", "DR16"):
        assert found[release, "maps"] == (1, 100)
        assert found[release, "drpall"] == (1, 30)
        assert (found[release, "logcube"], found[release, "modelcube"]) == ((1, 5), (1, 6))
    assert found["DR17", "maps"] == (0, 0)
    (tmp_path / "my.yaml").write_text(yaml.safe_dump({"releases": TABLE, "resources": str(tmp_path / "resources")}))
    assert main(["releases", "--settings", str(tmp_path / "my.yaml")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith("4 files, 141 B below ")
    assert next(line for line in printed if "DR16" in line and " maps " in line).endswith("the files of DR15")


@dataclass
class Archives:
    """What the loopback server has: files and folders with their headers, tables, and what it was asked."""

    url: str = ""
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    tables: list[tuple[str, str]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
def archives():
    made = Archives()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            """Keep the test's output clean."""

        def _answer(self, body: bytes, code: int = 200, **headers):
            self.send_response(code)
            for name, value in ({"Content_Length": str(len(body))} | headers).items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self):
            made.asked.append((self.command, self.path))
            if self.path in made.codes:
                self._answer(b"", made.codes[self.path])
            elif self.path in made.files:
                self._answer(b"", **made.files[self.path])
            elif self.path in made.pages:
                self._answer(made.pages[self.path].encode(), Content_Type="text/html")
            else:
                self._answer(b"", 404)

        do_HEAD = do_GET

        def do_POST(self):
            made.asked.append((self.command, self.path))
            query = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["QUERY"][0]
            assert "TAP_SCHEMA.tables" in query
            rows = [f"{schema},{table}" for schema, table in made.tables if f"'{schema[:4]}" in query]
            self._answer("\n".join(["schema_name,table_name", *rows]).encode(), Content_Type="text/csv")

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def asking(archives, tmp_path):
    """Settings whose releases table names the loopback archives."""
    sas = f"{archives.url}/sas/dr17/manga/spectro"
    tap = f"tap+{archives.url}/vo/tap?table=sami_dr3."
    table = write_releases(
        tmp_path / "r.csv",
        ("manga", "DR17", "drpall", "v3_1_1", f"{sas}/redux/v3_1_1/drpall-v3_1_1.fits"),
        ("manga", "DR17", "maps", "v3_1_1-3.1.0", f"{sas}/analysis/v3_1_1/3.1.0/{{daptype}}/{{plate}}/{{ifu}}/MAPS-{{plate}}.fits.gz"),
        ("sami", "DR3", "CubeObs", "dr3", f"{tap}CubeObs"),
        ("sami", "DR3", "InputCat", "dr3", f"{tap}InputCat"),
        ("sami", "DR3", "maps", "dr3", f"bulk+{archives.url}/api?source={{catid}}"),
        ("things", "NA", "cube", "NA", f"{archives.url}/Data_files/{{name}}_NA_CUBE.FITS"),
        ("things", "RO", "cube", "RO", "archive://old/{name}_RO.FITS"),
    )  # fmt: skip
    archives.files["/sas/dr17/manga/spectro/redux/v3_1_1/drpall-v3_1_1.fits"] = {"Content_Length": "500", "ETag": '"one"'}
    archives.pages["/sas/dr17/manga/spectro/analysis/v3_1_1/3.1.0/"] = "files"
    archives.codes["/Data_files/"] = 403
    archives.tables = [("sami_dr3", "CubeObs"), ("sami_dr3", "sami_dr3.InputCat")]
    return configure(releases=table, resources=str(tmp_path / "resources"), fetch={"tries": 1, "timeout_s": 5})


def states(settings) -> dict[str, str]:
    return {f"{f.survey} {f.release} {f.dataset}": f.state for f in check_archives(settings).findings}


def test_archives_are_asked_what_is_there_changed_and_vanished(archives, asking):
    same = {"sami DR3 maps": "not asked", "things NA cube": "refused", "things RO cube": "not asked"}
    names = ("manga DR17 drpall", "manga DR17 maps", "sami DR3 CubeObs", "sami DR3 InputCat")
    assert states(asking) == same | dict.fromkeys(names, "new")
    assert {method for method, path in archives.asked if "/vo/" not in path} == {"HEAD"}, "no file is fetched"
    assert states(asking) == same | dict.fromkeys(names, "there")
    archives.files["/sas/dr17/manga/spectro/redux/v3_1_1/drpall-v3_1_1.fits"]["ETag"] = '"two"'
    archives.pages.clear()
    archives.tables.pop()
    now = states(asking)
    assert now == same | dict(zip(names, ("changed", "vanished", "there", "vanished"), strict=True))
    archives.codes["/sas/dr17/manga/spectro/redux/v3_1_1/drpall-v3_1_1.fits"] = 503
    assert states(asking)["manga DR17 drpall"] == "unreachable"
    record = (Path(asking.resources) / "releases.csv").read_text()
    assert '""two""' in record, "what was last there is remembered"


def test_a_catalogue_on_disk_that_differs_from_the_archive_s_is_said_at_the_first_look(archives, asking):
    path = Path(asking.resources) / "manga/DR17/catalogues/drpall-v3_1_1.fits"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 499)
    assert states(asking)["manga DR17 drpall"] == "changed"


def test_a_release_that_appears_comes_with_the_rows_to_add(archives, asking, tmp_path, capsys):
    assert check_archives(asking).rows == []
    redux, analysis = "/sas/dr19/manga/spectro/redux/", "/sas/dr19/manga/spectro/analysis/v4_0_10/"
    archives.pages |= {
        redux: '<a href="v4_0_9/">v4_0_9/</a> <a href="v4_0_10/">x</a> <a href="other/">other</a>',
        analysis: '<a href="4.1.0/">',
    }
    archives.pages["/sas/dr19/manga/spectro/analysis/"] = '<a href="v4_0_10/">v4_0_10/</a>'
    archives.files[f"{redux}v4_0_10/drpall-v4_0_10.fits"] = {"Content_Length": "5"}
    archives.tables += [("sami_dr4", "CubeObs"), ("hector_dr1", "hector_dr1.Targets")]
    found = list(csv.DictReader(check_archives(asking).rows, COLUMNS))
    assert [(row["survey"], row["release"], row["dataset"], row["version"]) for row in found] == [
        ("manga", "DR19", "drpall", "v4_0_10"), ("manga", "DR19", "maps", "v4_0_10-4.1.0"),
        ("sami", "DR4", "CubeObs", "dr4"), ("hector", "DR1", "Targets", "dr1"),
    ]  # fmt: skip
    assert found[0]["url"] == f"{archives.url}{redux}v4_0_10/drpall-v4_0_10.fits"
    assert found[0]["note"] == ""
    assert found[1]["url"] == f"{archives.url}{analysis}4.1.0/{{daptype}}/{{plate}}/{{ifu}}/MAPS-{{plate}}.fits.gz"
    assert found[1]["note"] == "address not confirmed"
    assert found[2]["url"] == f"tap+{archives.url}/vo/tap?table=sami_dr4.CubeObs"

    (tmp_path / "my.yaml").write_text(yaml.safe_dump(asking.model_dump(mode="json", exclude_defaults=True)))
    assert main(["releases", "--check", "--settings", str(tmp_path / "my.yaml")]) == 0
    printed = capsys.readouterr().out
    assert "appeared: 4 row(s) to add" in printed
    with open(asking.releases, "a") as table:
        table.write("\n".join(printed.splitlines()[-4:-1]) + "\n")
    assert "DR19" in {row["release"] for row in release_rows(asking)}, "the printed lines are rows of the table"
    assert not any(row.startswith("manga,DR19") for row in check_archives(asking).rows)


def test_archives_out_of_reach_are_one_line_each_and_nothing_is_claimed(asking, tmp_path, capsys):
    text = Path(asking.releases).read_text()
    host = urlsplit(next(row["url"] for row in release_rows(asking))).netloc
    Path(asking.releases).write_text(text.replace(f"tap+http://{host}", "tap+http://tables.invalid").replace(host, "archive.invalid"))
    settings = tmp_path / "my.yaml"
    settings.write_text(yaml.safe_dump(asking.model_dump(mode="json", exclude_defaults=True)))
    assert main(["releases", "--check", "--settings", str(settings)]) == 2
    printed = capsys.readouterr()
    assert "  archive.invalid: not found: 3 address(es) not checked" in printed.out.splitlines()
    assert "  tables.invalid: not found: 2 address(es) not checked" in printed.out.splitlines()
    assert "could not be asked for new releases: manga, sami" in printed.out
    assert "no release has appeared" not in printed.out
    assert "no archive answered" in printed.err

    Path(asking.releases).write_text(text.replace(f"tap+http://{host}", "tap+http://tables.invalid"))
    assert main(["releases", "--check", "--settings", str(settings)]) == 0
    printed = capsys.readouterr().out
    assert "could not be asked for new releases: sami" in printed
    assert "no release has appeared" not in printed


def test_the_plan_counts_what_is_still_to_come_and_asks_for_few_lengths(archives, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = {
        "run": "p",
        "releases": TABLE,
        "surveys": ["things"],
        "mirror": archives.url,
        "resources": "here",
        "things": {"releases": ["NA"]},
    }
    settings = configure(**data)
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(data))
    from tullyflow.surveys.things import products, targets

    names = list(targets({}, "NA", settings)["galaxy"])
    files = [products({"galaxy": name}, "NA", settings)[0] for name in names]
    for number, product in enumerate(files):
        path = product.urls[0].removeprefix("https:/")
        archives.files[path] = {"Content_Length": str(10_000_000 * (1 + number % 2))}
    for product in files[:4]:
        path = tmp_path / "here" / product.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert main(["fetch", "--plan", "--settings", "my.yaml"]) == 0
    printed = capsys.readouterr().out
    assert len(archives.asked) == 20
    assert {method for method, _ in archives.asked} == {"HEAD"}
    cells = next(line for line in printed.splitlines() if line.startswith("things")).split()
    assert cells[:6] == ["things", "NA", "cube", str(len(names)), "4", str(len(names) - 4)]
    assert "bytes scaled from 20 files" in printed
    total = float(cells[6])
    assert total == pytest.approx(15 * (len(names) - 4), rel=0.1)
    assert f"to fetch: {len(names) - 4} files, {cells[6]} MB; free in" in printed
    assert "this does not fit" not in printed

    (tmp_path / "my.yaml").write_text(yaml.safe_dump({**data, "fetch": {"disk_margin_gb": 1e9}}))
    main(["fetch", "--plan", "--settings", "my.yaml"])
    assert "this does not fit" in capsys.readouterr().out


def test_the_plan_says_that_catalogues_come_first(archives, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(
        yaml.safe_dump({"run": "p", "releases": TABLE, "mirror": archives.url, "manga": {"releases": ["DR17"]}})
    )
    archives.files["/data.sdss.org/sas/dr17/manga/spectro/redux/v3_1_1/drpall-v3_1_1.fits"] = {"Content_Length": "14000000"}
    assert main(["fetch", "--plan", "--settings", "my.yaml"]) == 0
    printed = capsys.readouterr().out
    assert "to fetch: 1 files, 14.0 MB" in printed
    assert "manga DR17: its 1 catalogue file(s) come first" in printed
    assert "tullyflow fetch --survey manga --release DR17 --settings my.yaml --out results/p/catalogue/manga-DR17.csv" in printed
