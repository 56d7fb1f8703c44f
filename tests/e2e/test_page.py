"""The chat page in a real browser, against a real gateway: what a person can do with it, and what happens meanwhile."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Route, expect

from producers.local.processes import Supervised, procfile
from producers.local.redis_server import free_port
from tests.e2e.browser import CHROMIUM
from tests.e2e.chat import Chat
from tests.e2e.site import Site, until

KEY = "a-key-of-the-page"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path (.ci/run installs it where it may)")


class Gateway:
    """A gateway that is started again whenever it ends."""

    def __init__(self, program: Supervised, url: str) -> None:
        self.program, self.url = program, url

    @classmethod
    async def start(cls, site: Site, name: str, **settings: str) -> "Gateway":
        """Start it as the Procfile says and wait until it answers."""
        port = free_port()
        program = Supervised(
            name,
            procfile()["gateway"],
            {**site.stack.env, "PORT": str(port), **settings},
            site.stack.folder / f"{name}.log",
        )
        await program.start()
        gateway = cls(program, f"http://127.0.0.1:{port}/")
        try:
            await until(gateway.answers, what="the gateway answers")
        except BaseException:
            await program.stop()
            raise
        return gateway

    async def answers(self) -> bool:
        """It is ready for requests."""
        async with httpx.AsyncClient(timeout=2, trust_env=False) as http:
            try:
                return (await http.get(f"{self.url}readyz")).status_code == 200
            except httpx.TransportError:
                return False

    def kill(self) -> None:
        """As `kill -9`; it comes back within a second."""
        self.program.signal(signal.SIGKILL)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(running: Site) -> AsyncIterator[Gateway]:
    """A gateway for this machine, without keys."""
    gateway = await Gateway.start(running, "gateway-page")
    yield gateway
    await gateway.program.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A person who was never here before."""
    context = await browser.new_context(viewport={"width": 1000, "height": 760}, locale="en-GB")
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def chat(site: Site, gateway: Gateway, context: BrowserContext) -> Chat:
    """The open page."""
    return await Chat.open(site, gateway.url, context)


async def slow(site: Site, seconds: float = 1.5) -> None:
    """Pictures take long enough to do something meanwhile; here a second is fifty of theirs."""
    await site.configure(durations={"image": {"median": 50 * seconds, "sigma": 0}})


# -- one generation ---------------------------------------------------------------------------------------------------


async def test_the_first_picture_takes_one_key(chat: Chat) -> None:
    """A workflow is chosen, an example written and the button has the focus: Enter brings the first picture."""
    await chat.keep("first-visit")
    await expect(chat.send).to_be_focused()
    assert await chat.prompt.input_value()
    await chat.page.keyboard.press("Enter")
    await chat.shows_picture(chat.messages.last)
    await expect(chat.page.locator("#told")).to_contain_text("Done: ")
    await chat.keep("picture")
    chat.check()


async def test_progress_is_shown_on_the_way(site: Site, chat: Chat) -> None:
    """While a run is going its share and its step are told, and how it ended afterwards."""
    await slow(site)
    message = await chat.ask("a fox reading under a maple")
    await expect(message.locator(".step")).to_have_text(re.compile(r"^\d+ % · \w"), timeout=15_000)
    await expect(message.get_by_role("progressbar")).to_be_visible()
    await chat.keep("progress")
    await chat.shows_picture(message)
    await expect(message.locator(".state")).to_contain_text("Done in")
    await expect(message.get_by_role("progressbar")).to_be_hidden()
    chat.check()


async def test_every_kind_of_output_is_shown(site: Site, chat: Chat) -> None:
    """Pictures, an animation, a film and a text of one job are all there."""
    await site.configure(durations={"video": {"median": 20, "sigma": 0}})
    message = await chat.ask("an island seen from above", workflow="Image and Video Pack")
    await chat.shows_picture(message)
    await expect(message.locator(".picture:not(.loading)")).to_have_count(3)
    await expect(message.locator("video")).to_have_js_property("readyState", 4)
    await expect(message.locator("blockquote")).not_to_be_empty()
    await chat.keep("outputs")
    chat.check()


async def test_a_picture_is_uploaded_and_given_to_a_workflow(site: Site, chat: Chat) -> None:
    """A file is taken, sent as its address and shown; a file that is no picture is refused beside its field."""
    await chat.page.get_by_label("Workflow").select_option(label="Caption Image")
    field = chat.page.get_by_label("Picture", exact=True)
    await field.set_input_files({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"})
    await expect(chat.page.locator('[data-name="image"] .wrong')).to_have_text("Is no image, video or audio")
    picture = await chat.page.screenshot()
    await field.set_input_files({"name": "fox.png", "mimeType": "image/png", "buffer": picture})
    await expect(chat.page.locator(".files")).to_have_text("fox.pngRemove")
    await chat.send.click()
    message = chat.messages.last
    await chat.has(message, "succeeded")
    await expect(message.locator("blockquote")).not_to_be_empty()
    assert chat.posts[-1][1]["inputs"]["image"].startswith(site.stack.simulator_url)
    chat.check(refusals=True)


# -- once, and never twice --------------------------------------------------------------------------------------------


async def test_a_double_click_makes_one_job(site: Site, chat: Chat) -> None:
    """Two quick clicks are one wish."""
    await chat.prompt.fill("a tram at dawn")
    await chat.send.dblclick()
    await chat.shows_picture(chat.message("a tram at dawn"))
    assert len(chat.posts) == 1
    chat.check()


async def test_a_lost_answer_is_asked_for_again_under_the_same_key(site: Site, chat: Chat) -> None:
    """The job arrived and the answer did not: the page repeats the request, and there is one run."""
    await chat.lose_next_answer()
    message = await chat.ask("copper pots")
    await chat.shows_picture(message)
    job = await message.get_attribute("data-job")
    assert len({key for key, _ in chat.posts}) == 1
    assert len(await site.runs(job)) == 1
    assert (await site.stats())["runs_total"] == 1
    chat.check(refusals=True)


async def test_what_was_not_sent_yet_is_sent_after_a_reload(site: Site, chat: Chat) -> None:
    """A request without an answer is kept in the browser, key and all."""
    await chat.page.route("**/v1/jobs", lambda route: route.abort())
    message = await chat.ask("a robot watering roses")
    await expect(message.locator(".state")).to_contain_text("Trying again")
    await chat.page.unroute_all()
    await chat.page.reload()
    await chat.shows_picture(chat.message("a robot watering roses"))
    assert len({key for key, _ in chat.posts}) == 1
    chat.check(refusals=True)


# -- cancel, again, edit ----------------------------------------------------------------------------------------------


async def test_a_job_is_cancelled_run_again_and_edited(site: Site, chat: Chat) -> None:
    """Cancel ends it; Run again asks for the same; Edit puts it into the form."""
    await slow(site)
    message = await chat.ask("an orchard in the snow")
    await chat.has(message, "submitted", "running")
    await message.get_by_role("button", name="Cancel").click()
    await chat.has(message, "cancelled")
    await expect(message.get_by_role("button", name="Run again")).to_be_focused()
    await chat.keep("cancelled")
    await site.calm()
    await chat.prompt.fill("something else")
    await message.get_by_role("button", name="Run again").click()
    await expect(chat.messages).to_have_count(2)
    await chat.shows_picture(chat.messages.last)
    assert chat.posts[0][1]["inputs"] == chat.posts[1][1]["inputs"]
    assert chat.posts[0][0] != chat.posts[1][0]
    await message.first.get_by_role("button", name="Edit").click()
    await expect(chat.prompt).to_be_focused()
    await expect(chat.prompt).to_have_value("an orchard in the snow")
    chat.check()


async def test_a_cancel_before_the_answer_holds(site: Site, chat: Chat) -> None:
    """What was given up while it was being sent is cancelled when it turns out to have arrived."""
    given_up = asyncio.Event()

    async def hold(route: Route) -> None:
        await given_up.wait()
        await route.continue_()

    await slow(site)
    await chat.page.route("**/v1/jobs", hold, times=1)
    message = await chat.ask("second thoughts")
    await message.get_by_role("button", name="Cancel").click()
    await expect(message.locator(".state")).to_have_text("Not sent.")
    given_up.set()
    await chat.has(message, "cancelled")
    assert await message.get_attribute("data-job")
    chat.check()


async def test_the_place_in_line_is_told_and_can_be_given_up(site: Site, chat: Chat) -> None:
    """While all machines are busy the page says how many go first; a cancel then is over at once."""
    await site.configure(durations={"video": {"median": 600, "sigma": 0}})
    busy = [await site.enqueue("Image and Video Pack", n=n) for n in range(5)]
    message = await chat.ask("patience", workflow="Image and Video Pack")
    await expect(message.locator(".state")).to_contain_text(re.compile(r"^(Next in line|In line, \d+ ahead)"))
    await chat.keep("in-line")
    await message.get_by_role("button", name="Cancel").click()
    await chat.has(message, "cancelled")
    assert await site.runs(await message.get_attribute("data-job")) == []
    for handle in busy:
        await handle.cancel()
    await site.final(busy)
    chat.check()


# -- what is wrong is said where it is wrong --------------------------------------------------------------------------


async def test_a_refused_input_is_told_beside_its_field(chat: Chat) -> None:
    """The gateway's reason stands at the field, which has the focus; nothing was sent; mending it helps."""
    await chat.page.get_by_label("Workflow").select_option(label="SDXL Portrait")
    await chat.prompt.fill("https://ada:secret@example.com/")
    await chat.send.click()
    wrong = chat.page.locator('[data-name="prompt"] .wrong')
    await expect(wrong).to_contain_text("Looks like an address with a secret in it")
    await expect(chat.prompt).to_be_focused()
    await expect(chat.prompt).to_have_attribute("aria-invalid", "true")
    await expect(chat.messages).to_have_count(0)
    await chat.keep("refused")
    await chat.page.get_by_text("Settings").click()
    await chat.page.get_by_label("Guidance").fill("99")
    await chat.send.click()
    await expect(chat.page.locator('[data-name="cfg"] .wrong')).to_have_text("Has to be 1 to 20")
    await chat.page.get_by_label("Guidance").fill("7.5")
    await chat.prompt.fill("a lake from above")
    await expect(wrong).to_be_hidden()
    await chat.page.get_by_label("Guidance").press("Enter")
    await chat.shows_picture(chat.message("a lake from above"))
    chat.check(refusals=True)


# -- reloads, restarts, several at once -------------------------------------------------------------------------------


async def test_a_reload_in_the_middle_loses_nothing(site: Site, chat: Chat) -> None:
    """After a reload the job is there, goes on, and ends."""
    await slow(site)
    message = await chat.ask("a mountain lake from above")
    await chat.has(message, "submitted", "running")
    await chat.page.reload()
    await chat.is_ready()
    await chat.has(message, "submitted", "running")
    await chat.shows_picture(message)
    assert len(chat.posts) == 1
    chat.check()


async def test_the_page_rides_out_a_killed_gateway(site: Site, gateway: Gateway, chat: Chat) -> None:
    """kill -9 in the middle: the page says that it reconnects, comes back, and shows the picture; one run was made."""
    await slow(site)
    message = await chat.ask("a lighthouse in a storm")
    await chat.has(message, "submitted", "running")
    gateway.kill()
    await expect(chat.page.locator("#connection")).to_contain_text("Reconnecting")
    await chat.keep("reconnecting")
    await chat.is_ready()
    await chat.shows_picture(message)
    assert (await site.stats())["runs_total"] == 1
    chat.check(refusals=True)


async def test_without_events_the_jobs_are_asked(site: Site, gateway: Gateway, context: BrowserContext) -> None:
    """Something between us swallows the event stream: statuses are read instead, and the picture comes."""
    await context.route("**/events", lambda route: route.abort())
    page = Chat(site, gateway.url, await context.new_page())
    await page.page.goto(gateway.url)
    await expect(page.send).to_be_enabled()
    await page.shows_picture(await page.ask("a kitchen full of copper"))
    page.check(refusals=True)


async def test_two_jobs_go_on_at_once_and_in_two_tabs(site: Site, gateway: Gateway, chat: Chat) -> None:
    """The second needs not wait for the first, and another tab of the same browser hears of both."""
    await slow(site, 2.5)
    other = await Chat.open(site, gateway.url, chat.page.context)
    first = await chat.ask("a cat on a warm roof")
    second = await chat.ask("a dog on a cold step")
    await expect(chat.page).to_have_title("(2) Conveyor")
    for message in (first, second):
        await chat.shows_picture(message)
    for words in ("a cat on a warm roof", "a dog on a cold step"):
        await other.shows_picture(other.message(words))
    await expect(chat.page).to_have_title("Conveyor")
    await chat.page.bring_to_front()
    await chat.keep("two-jobs")
    chat.check()
    other.check()


# -- everybody can use it ---------------------------------------------------------------------------------------------


async def test_the_keyboard_is_enough(site: Site, chat: Chat) -> None:
    """From the button backwards to the prompt, send, look at the picture large, close it, run it again."""
    keyboard = chat.page.keyboard
    await expect(chat.send).to_be_focused()
    await keyboard.press("Shift+Tab")
    await keyboard.press("Shift+Tab")
    await expect(chat.prompt).to_be_focused()
    await keyboard.press("Control+a")
    await keyboard.type("two herons")
    await keyboard.press("Control+Enter")
    message = chat.message("two herons")
    await chat.shows_picture(message)
    await message.get_by_role("button", name="Show large").last.focus()
    await keyboard.press("Enter")
    await expect(chat.page.get_by_role("dialog")).to_be_visible()
    await keyboard.press("Escape")
    await expect(chat.page.get_by_role("dialog")).to_be_hidden()
    await expect(message.get_by_role("button", name="Show large").last).to_be_focused()
    await keyboard.press("Tab")
    await expect(message.get_by_role("button", name="Run again")).to_be_focused()
    await keyboard.press("Enter")
    await expect(chat.messages).to_have_count(2)
    await chat.shows_picture(chat.messages.last)
    chat.check()


async def test_a_small_dark_screen_is_enough(site: Site, gateway: Gateway, browser: Browser) -> None:
    """At 360 pixels nothing is cut off and nothing scrolls sideways."""
    context = await browser.new_context(
        viewport={"width": 360, "height": 740}, color_scheme="dark", reduced_motion="reduce", locale="en-GB"
    )
    chat = await Chat.open(site, gateway.url, context)
    await chat.keep("small-first-visit")
    await chat.shows_picture(await chat.ask("a" * 200))
    await chat.page.get_by_text("Settings").click()
    assert await chat.page.evaluate("() => document.documentElement.scrollWidth") == 360
    wide = "() => [...document.querySelectorAll('main, .composer')].filter((one) => one.scrollWidth > one.clientWidth).length"
    assert await chat.page.evaluate(wide) == 0
    await chat.keep("small-dark")
    chat.check()
    await context.close()


# -- keys -------------------------------------------------------------------------------------------------------------


async def test_a_gateway_with_keys_asks_for_one(site: Site, context: BrowserContext) -> None:
    """The page asks, says when the key is wrong, and then does all it does; a reload of the tab needs no key again."""
    gateway = await Gateway.start(site, "gateway-keys", CONVEYOR_API_KEYS=f"web:{KEY}", CONVEYOR_HOST="127.0.0.1")
    try:
        chat = Chat(site, gateway.url, await context.new_page())
        await chat.page.goto(gateway.url)
        field = chat.page.get_by_role("textbox", name="API key")
        await expect(field).to_be_focused()
        await chat.keep("key")
        await field.fill("not-this-one")
        await field.press("Enter")
        await expect(chat.page.locator("#key-reason")).to_contain_text("not known")
        await field.fill(KEY)
        await field.press("Enter")
        await chat.is_ready()
        await chat.shows_picture(await chat.ask("a locked garden"))
        await chat.page.reload()
        await chat.is_ready()
        await chat.shows_picture(chat.message("a locked garden"))
        assert KEY not in gateway.program.log_path.read_text()
        chat.check(refusals=True)
    finally:
        await gateway.program.stop()


async def test_the_page_allows_itself_nothing_from_elsewhere(gateway: Gateway) -> None:
    """Every file of the page comes under a policy without inline code, and none has any."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=5, trust_env=False) as http:
        answer = await http.get("/")
        policy = answer.headers["content-security-policy"]
        for part in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"):
            assert part in policy.split("; ")
        assert "unsafe" not in policy
        assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|https?://", answer.text)
        for name in re.findall(r'(?:href|src)="([\w.]+\.\w+)"', answer.text):
            assert (await http.get(f"/{name}")).status_code == 200, name
