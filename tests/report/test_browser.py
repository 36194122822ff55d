"""Promises of the report in a real browser: it loads without a complaint, filters, sorts, opens galaxies, and fits a phone."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tullyflow.report.addresses import page_address
from tullyflow.report.page import build_report
from tullyflow.tables import SAMPLE, read_table, write_table

HOSTILE, HOSTILE_OUT = "</script><script>alert('NGC & \"1\"')</script>", '"><img src=x onerror=alert(1)>'
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def chromium():
    """A browser: that of the system, or Playwright's own."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install '.[test]')")
    found = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    with sync_api.sync_playwright() as playwright:
        if found is None and not Path(playwright.chromium.executable_path).is_file():
            pytest.skip("no Chromium here (apt install chromium, or playwright install chromium)")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page, with every complaint of the browser and every address it asked for."""

    def __init__(self, browser, address: str, viewport: dict, **options):
        self.complaints, self.addresses = [], []
        self.page = browser.new_page(viewport=viewport, reduced_motion="reduce", **options)
        self.page.set_default_timeout(8000)
        self.page.on("console", lambda message: self.complaints.append(message.text) if message.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(f"alert: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.addresses.append(request.url))
        self.page.goto(address)

    def names(self) -> list[str]:
        return self.page.locator(".row .open").all_inner_texts()

    def said(self) -> str:
        return self.page.locator(".said").inner_text()


def _build(run, out_dir, sample=None, **other) -> Path:
    arguments = {
        "relation_paths": run.relations, "models_paths": run.models, "maps_paths": run.maps, "network_dirs": run.networks,
        "benchmarks_dir": None, "closure_path": None, "settings": run.settings,
    }  # fmt: skip
    return build_report(sample or run.sample, out_dir=out_dir, **(arguments | other))


@pytest.fixture(scope="module")
def report(finished_run, tmp_path_factory) -> Path:
    return _build(finished_run, tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def sample(finished_run):
    return read_table(finished_run.sample, SAMPLE)


@pytest.fixture
def visit(chromium, report) -> Iterator[Visit]:
    visited = Visit(chromium, report.as_uri(), DESKTOP)
    yield visited
    complaints = list(visited.complaints)
    visited.page.close()
    assert complaints == []


def test_the_report_asks_for_nothing_but_its_own_folder(visit, report):
    visit.page.locator("#gallery").scroll_into_view_if_needed()
    assert visit.page.locator(".row .thumb").first.is_visible()
    folder = report.parent.as_uri()
    asked = [address for address in visit.addresses if not address.startswith("data:")]
    assert len(asked) > 1 and all(address.startswith(folder) for address in asked), asked


def test_the_gallery_filters_by_name_survey_place_and_flag(visit, sample):
    page = visit.page
    assert visit.said() == f"{len(sample)} of {len(sample)} galaxies"
    assert 8 < len(visit.names()) < 30, "only the rows in view are in the document"
    page.locator("[name=place]").select_option("used")
    assert visit.said().startswith(f"{sample['used'].sum()} of")
    page.locator("[name=survey]").select_option("SAMI DR3")
    assert visit.said().startswith(f"{(sample['used'] & (sample['survey'] == 'sami')).sum()} of")
    page.locator("[name=place]").select_option("")
    page.locator("[name=flag]").select_option("FACE_ON")
    face_on = sample[sample["flag_names"].str.contains("FACE_ON") & (sample["survey"] == "sami")]
    assert visit.names() == face_on["galaxy"].tolist()
    page.locator("[name=flag]").select_option("")
    page.locator("[name=survey]").select_option("")
    page.locator("[name=search]").fill("sr3-801")
    assert visit.names() == [f"SR3-801{k}" for k in range(10)] and visit.said().startswith("10 of")
    page.locator("[name=search]").fill("nowhere")
    assert visit.said() == f"No galaxy of {len(sample)} fits these filters."


def test_the_gallery_sorts_by_a_column_and_back_and_puts_what_is_missing_last(visit, sample):
    head = visit.page.locator(".head .cell", has_text="V2.2")
    head.get_by_role("button").click()
    fast = sample.assign(shown=sample["v_22_kms"].round()).sort_values("shown", ascending=False, kind="stable")  # as the column shows it
    assert head.get_attribute("aria-sort") == "descending"
    assert visit.names()[:8] == fast["galaxy"].head(8).tolist()
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert visit.names()[0] == fast.dropna(subset="v_22_kms")["galaxy"].iloc[-1]
    visit.page.locator(".rows").evaluate("rows => rows.scrollTop = rows.scrollHeight")
    visit.page.wait_for_function("document.querySelector('.row:last-child .flags').textContent.startsWith('A file')")
    assert set(visit.names()[-2:]) == set(sample[sample["v_22_kms"].isna()]["galaxy"])


def test_the_keyboard_goes_through_the_gallery_and_opens_a_galaxy(visit, sample):
    page = visit.page
    page.locator("[name=place]").select_option("used")
    page.get_by_role("grid").focus()
    for key in ("ArrowDown", "End", "ArrowUp", "Home", "PageDown", "ArrowUp"):
        page.keyboard.press(key)
    active = page.locator(f"#{page.get_by_role('grid').get_attribute('aria-activedescendant')} .open").inner_text()
    assert active in set(sample.loc[sample["used"], "galaxy"]) and page.locator(".row.active").is_visible()
    page.keyboard.press("Enter")
    page.wait_for_url("**/galaxies/**")
    assert page.locator("h1").inner_text() == active
    assert page.locator(".maps img").count() == 4 and page.locator("svg.curve circle").count() > 5
    page.get_by_role("link", name="All galaxies").click()
    page.wait_for_url("**/index.html#gallery")


def test_a_galaxy_without_a_page_opens_a_panel_that_escape_closes(visit, sample):
    page = visit.page
    page.locator("[name=place]").select_option("out")
    page.get_by_role("grid").focus()
    page.keyboard.press("Enter")
    panel = page.get_by_role("dialog")
    row = sample[~sample["used"]].iloc[0]
    assert panel.get_by_role("heading").inner_text() == row["galaxy"]
    assert f"{row['log_mstar']:.2f}" in panel.inner_text() and row["flag_sentences"].split(".")[0] in panel.inner_text()
    page.keyboard.press("Escape")
    assert not panel.is_visible()


def test_the_relation_is_drawn_and_its_points_are_galaxies(visit, sample):
    page = visit.page
    over = page.get_by_role("application")
    drawn = "canvas => new Set(new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size"
    assert page.locator(".plot canvas").first.evaluate(drawn) > 20
    over.focus()
    page.keyboard.press("Home")
    used = sample[sample["used"]].sort_values("log_mstar")
    assert used["galaxy"].iloc[0] in page.locator("#picked").inner_text()
    page.keyboard.press("ArrowRight")
    assert used["galaxy"].iloc[1] in page.locator("#picked").inner_text()
    assert f"{used['log_mstar'].iloc[1]:.3f}" in page.locator("#picked").inner_text()
    place = page.evaluate("(p => [Scatter.view.X(p.x), Scatter.view.Y(p.y)])(Scatter.points.find(p => p.kind === 'used'))")
    box = over.bounding_box()
    page.mouse.move(box["x"] + place[0], box["y"] + place[1])
    assert page.locator(".tip").is_visible()
    page.locator("[name=velocity]").select_option("v_22")
    assert "was not fitted" in page.locator(".fit").inner_text()
    page.locator("[name=relation]").select_option("forward")
    page.locator("[name=method]").select_option("mnr")
    assert "4 galaxies are left" in page.locator(".fit").inner_text()


def test_the_gallery_sorts_by_how_circular_and_a_contested_galaxy_opens(chromium, finished_run, judged_sample, tmp_path):
    write_table(tmp_path / "sample.parquet", judged_sample, SAMPLE)
    settings = finished_run.settings.model_copy(update={"report": finished_run.settings.report.model_copy(update={"pages": "none"})})
    visit = Visit(chromium, _build(finished_run, tmp_path / "report", tmp_path / "sample.parquet", settings=settings).as_uri(), DESKTOP)
    page = visit.page
    head = page.locator(".head .cell", has_text="κ")
    head.get_by_role("button").click()
    shown = judged_sample.assign(shown=judged_sample["kappa"].round(2)).sort_values("shown", ascending=False, kind="stable")
    assert visit.names()[:6] == shown["galaxy"].head(6).tolist()
    first = page.locator(".row").first
    assert f"{shown['kappa'].iloc[0]:.2f} ± 0.10" in first.inner_text().replace("\n", " ")
    page.locator("[name=sort]").select_option("usable_prob")
    by_use = judged_sample.assign(shown=judged_sample["usable_prob"].round(2)).sort_values("shown", ascending=False, kind="stable")
    assert visit.names()[:2] == by_use["galaxy"].head(2).tolist()
    contested = page.locator(".contested button")
    assert set(contested.all_inner_texts()[:2]) == {HOSTILE, HOSTILE_OUT} and page.locator(".contested .thumb").first.is_visible()
    wanted = contested.first.inner_text()
    contested.first.click()
    panel = page.get_by_role("dialog")
    assert panel.get_by_role("heading").inner_text() == wanted and "0.99" in panel.inner_text()
    assert visit.complaints == []
    page.close()


def test_every_control_has_a_name(visit):
    nameless = """() => [...document.querySelectorAll('a, button, input, select, canvas[tabindex], [role=grid], img')]
        .filter(e => !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim() || e.alt || e.querySelector('img')?.alt))
        .map(e => e.outerHTML.slice(0, 90))"""
    assert visit.page.evaluate(nameless) == []


def test_names_from_a_catalogue_are_text_wherever_they_stand(visit, sample, report):
    page = visit.page
    page.locator("[name=search]").fill("<img")
    assert visit.names() == [HOSTILE_OUT]
    page.locator(".row").click()
    assert page.get_by_role("dialog").get_by_role("heading").inner_text() == HOSTILE_OUT
    page.keyboard.press("Escape")
    page.locator("[name=search]").fill("<script>")
    page.get_by_role("link", name=HOSTILE).click()
    page.wait_for_url("**/galaxies/**")
    assert page.locator("h1").inner_text() == HOSTILE
    row = sample[sample["galaxy"] == HOSTILE].iloc[0]
    assert (report.parent / page_address(row["survey"], row["release"], HOSTILE)).is_file()


@pytest.mark.parametrize("address", ["index", "galaxy"])
def test_a_phone_shows_it_without_scrolling_sideways(chromium, report, address):
    path = report if address == "index" else next((report.parent / "galaxies").glob("*/M17-*.html"))
    visit = Visit(chromium, path.as_uri(), PHONE, is_mobile=True, has_touch=True)
    assert visit.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    if address == "index":
        visit.page.locator("#gallery").scroll_into_view_if_needed()
        assert visit.page.locator(".row .number").first.is_visible() and len(visit.names()) > 5
        visit.page.get_by_role("application").tap()
    assert visit.complaints == []
    visit.page.close()


def test_a_run_with_next_to_nothing_still_has_a_report_that_works(chromium, finished_run, sample, tmp_path):
    cases = {"empty": sample.head(0), "without masses": sample.assign(log_mstar=float("nan"), used=False)}
    for name, table in cases.items():
        write_table(tmp_path / "sample.parquet", table, SAMPLE)
        fits = finished_run.relations[-1:] if name == "empty" else finished_run.relations
        page = _build(finished_run, tmp_path / name, tmp_path / "sample.parquet", maps_paths=[], models_paths=[], relation_paths=fits)
        visit = Visit(chromium, page.as_uri(), DESKTOP)
        assert visit.complaints == [], name
        assert "are in the relation" in visit.page.locator(".lead").inner_text()
        if name != "empty":
            assert visit.page.locator(".nomap").count() > 5
        visit.page.close()
