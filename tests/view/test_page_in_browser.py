"""The page in a real browser, opened from disk with the network cut: it draws, its switches work, and left is left.

One run costs about 20 seconds; skipped by name where Chromium, its driver or selenium is missing.
"""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wholescene.camera import Camera
from wholescene.grid import VoxelGrid
from wholescene.labels import SEMANTIC_KITTI
from wholescene.scene import Scene
from wholescene.view.html import write_html

pytestmark = pytest.mark.slow

FLAGS = (
    "--headless --no-sandbox --disable-dev-shm-usage --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --use-angle=swiftshader --enable-unsafe-swiftshader --ignore-gpu-blocklist --window-size=1000,700 "
    "--host-resolver-rules=MAP\u00a0*\u00a0~NOTFOUND"
)
BLUE, YELLOW, GREEN = (SEMANTIC_KITTI.colours[label] for label in (1, 13, 15))


def started(*more: str) -> Any:
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("Chromium or its driver is not here")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS.split(" "), *more]:
        options.add_argument(flag.replace("\u00a0", " "))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    made = started()
    yield made
    made.quit()


def settled(browser: Any, holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.05)


def opened(browser: Any, path: Path) -> Any:
    browser.get(path.as_uri())
    state = "return document.documentElement.dataset.state"
    settled(browser, lambda: browser.execute_script(state) != "loading")
    assert browser.execute_script(state) == "ready"
    assert browser.get_log("browser") == []
    return browser


def picture(browser: Any) -> np.ndarray:
    """(H, W, 3) pixels of the canvas as they are on the screen, after whatever was asked for is drawn."""
    browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))")
    (canvas,) = browser.find_elements("tag name", "canvas")
    return np.asarray(Image.open(io.BytesIO(canvas.screenshot_as_png)).convert("RGB")).astype(int)


def hue(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """(N, 2) pixels (right, down) of nearly that hue."""
    length = np.linalg.norm(picture, axis=-1) * np.linalg.norm(colour)
    return np.argwhere((picture @ np.array(colour)) / np.maximum(length, 1) > 0.97)[:, ::-1]


def arms(axes: str = "xyz", camera: Camera | None = None) -> Scene:
    """A row of cars forward, a building to the left, a tree at the far right end."""
    labels = np.zeros((6, 6, 3), np.uint8)
    labels[:, 2, 0] = 1
    labels[0, 3:, 0] = 13
    labels[5, 0, :] = 15
    order = ["xyz".index(a) for a in axes]
    grid = VoxelGrid.from_corner((100, 200, 0), [labels.shape[k] for k in order], 0.5, axes)
    return Scene(np.ascontiguousarray(labels.transpose(order)), grid, SEMANTIC_KITTI, camera=camera, name="arms")


def posed() -> Camera:
    camera = Camera.from_fov(70, (160, 90)).on_ground(1.0, 5)
    return camera.posed(camera.T_cam_world @ np.array([[1, 0, 0, -98], [0, 1, 0, -201.25], [0, 0, 1, 0], [0, 0, 0, 1.0]]))


@pytest.mark.parametrize("axes", ["xyz", "xzy"])
def test_left_is_left_and_forward_is_up_whatever_the_order_of_the_axes(browser: Any, tmp_path: Path, axes: str) -> None:
    write_html(tmp_path / "p.html", arms(axes))
    seen = picture(opened(browser, tmp_path / "p.html"))
    row, left, far = (hue(seen, colour) for colour in (BLUE, YELLOW, GREEN))
    assert min(len(row), len(left), len(far)) > 100
    assert left[:, 0].max() < row[:, 0].max()
    assert left[:, 0].mean() < row[:, 0].mean() < far[:, 0].mean()
    assert far[:, 1].mean() < left[:, 1].mean()


def test_switching_a_class_off_and_on_takes_it_away_and_brings_it_back(browser: Any, tmp_path: Path) -> None:
    write_html(tmp_path / "p.html", arms())
    opened(browser, tmp_path / "p.html")
    before = picture(browser)
    faces = int(browser.execute_script("return document.documentElement.dataset.faces"))
    (box,) = browser.find_elements("css selector", "#classes label[data-label='13'] input")
    box.click()
    without = picture(browser)
    assert len(hue(without, YELLOW)) == 0 < len(hue(before, YELLOW))
    assert len(hue(without, BLUE)) >= len(hue(before, BLUE))
    gone = int(browser.execute_script("return document.documentElement.dataset.faces"))
    assert gone == faces - (3 * 4 + 2) + 2  # a row of three loses its faces, and the car beside it shows one more; its own end faced that car
    box.click()
    assert np.array_equal(picture(browser), before)


def test_truth_and_what_the_camera_sees_can_be_chosen(browser: Any, tmp_path: Path) -> None:
    scene = arms(camera=posed())
    truth = replace(scene, labels=np.where(scene.labels == 15, 0, scene.labels).astype(np.uint8))
    states = np.where(scene.labels == 13, 0, 1).astype(np.uint8)
    write_html(tmp_path / "p.html", scene, truth, states)
    opened(browser, tmp_path / "p.html")
    both = picture(browser)
    (page,) = browser.find_elements("tag name", "body")
    page.send_keys("t")
    true = picture(browser)
    assert len(hue(true, GREEN)) == 0 < len(hue(both, GREEN))
    page.send_keys("t")
    assert np.array_equal(picture(browser), both)
    (tint,) = browser.find_elements("css selector", "#states label:last-child input")
    tint.click()
    plain = picture(browser)
    assert len(hue(plain, YELLOW)) > len(hue(both, YELLOW))  # what is out of view was grey and hatched
    page.send_keys("v")
    assert len(hue(picture(browser), YELLOW)) == 0
    page.send_keys("v")
    assert np.array_equal(picture(browser), plain)


def test_turning_moving_and_zooming_change_the_view_and_a_key_brings_it_back(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver import ActionChains, Keys

    write_html(tmp_path / "p.html", arms(camera=posed()))
    opened(browser, tmp_path / "p.html")
    start = picture(browser)
    (canvas,) = browser.find_elements("tag name", "canvas")
    (page,) = browser.find_elements("tag name", "body")

    def changed(act: Callable[[], Any]) -> np.ndarray:
        page.send_keys("1")
        assert np.array_equal(picture(browser), start)
        act()
        after = picture(browser)
        assert (np.abs(after - start).max(-1) > 20).mean() > 0.002
        return after

    turned = changed(lambda: ActionChains(browser).drag_and_drop_by_offset(canvas, 120, 0).perform())
    assert hue(turned, YELLOW)[:, 1].mean() > hue(start, YELLOW)[:, 1].mean()  # dragged to the right, the left side comes forward
    changed(lambda: ActionChains(browser).key_down(Keys.SHIFT).drag_and_drop_by_offset(canvas, 60, 30).key_up(Keys.SHIFT).perform())
    nearer = changed(lambda: browser.execute_script("arguments[0].dispatchEvent(new WheelEvent('wheel', { deltaY: -400 }))", canvas))
    assert len(hue(nearer, BLUE)) > len(hue(start, BLUE))

    def pinch() -> None:
        x, y = start.shape[1] / 2, start.shape[0] / 2
        for kind, gap in (("touchStart", 40), ("touchMove", 60), ("touchMove", 90), ("touchEnd", None)):
            fingers = [] if gap is None else [{"x": x - gap, "y": y, "id": 1}, {"x": x + gap, "y": y, "id": 2}]
            browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    assert len(hue(changed(pinch), BLUE)) > len(hue(start, BLUE))
    changed(lambda: page.send_keys(Keys.ARROW_LEFT))
    changed(lambda: page.send_keys("2"))
    changed(lambda: page.send_keys("3"))


def test_the_pointer_names_what_is_under_it(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver import ActionChains

    write_html(tmp_path / "p.html", arms(camera=posed()))
    opened(browser, tmp_path / "p.html")
    (canvas,) = browser.find_elements("tag name", "canvas")
    tree = hue(picture(browser), GREEN)
    x, y = tree[len(tree) // 2].tolist()
    width, height = canvas.size["width"], canvas.size["height"]
    ActionChains(browser).move_to_element_with_offset(canvas, x - width // 2, y - height // 2).perform()
    (words,) = browser.find_elements("css selector", "#under")
    assert words.text.startswith("vegetation · ")
    assert "m from the camera" in words.text


def test_a_narrow_window_shows_the_scene_above_the_panel(browser: Any, tmp_path: Path) -> None:
    write_html(tmp_path / "p.html", arms())
    browser.set_window_size(500, 800)
    try:
        seen = picture(opened(browser, tmp_path / "p.html"))
        assert len(hue(seen, BLUE)) > 100
        panel = browser.execute_script("return document.querySelector('aside').getBoundingClientRect().top")
        assert panel == pytest.approx(seen.shape[0], abs=2)
    finally:
        browser.set_window_size(1000, 700)


def test_without_webgl_there_is_a_still_picture(tmp_path: Path) -> None:
    browser = started("--disable-3d-apis")
    try:
        write_html(tmp_path / "p.html", arms())
        browser.get((tmp_path / "p.html").as_uri())
        settled(browser, lambda: browser.execute_script("return document.documentElement.dataset.state") != "loading")
        (still,) = browser.find_elements("css selector", "body main > .still")
        assert still.is_displayed()
        seen = np.asarray(Image.open(io.BytesIO(still.screenshot_as_png)).convert("RGB")).astype(int)
        assert min(len(hue(seen, colour)) for colour in (BLUE, YELLOW, GREEN)) > 100
    finally:
        browser.quit()


def test_a_full_street_is_drawn(browser: Any, tmp_path: Path) -> None:
    labels = np.zeros((256, 256, 32), np.uint8)
    labels[:, :, :3] = 9
    labels[:, 200:, :20] = 13
    noise = np.random.default_rng(0).random(labels.shape) < 0.0003
    labels[noise] = 15
    write_html(tmp_path / "p.html", Scene(labels, VoxelGrid.from_corner((0, -25.6, -2), labels.shape, 0.2), SEMANTIC_KITTI))
    seen = picture(opened(browser, tmp_path / "p.html"))
    assert len(hue(seen, YELLOW)) > 5000
    assert hue(seen, YELLOW)[:, 0].mean() < seen.shape[1] / 2
