"""The server: what it answers to whom, and what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import re
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from .. import __version__
from ..errors import InnverseError
from . import gallery, repair
from .arm import Arm, Point
from .jobs import Busy, Job, Jobs, Work
from .limits import Limits
from .uploads import Uploads

_log = logging.getLogger(__name__)

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_AT_ONCE, _PATIENCE = 8, 60.0  # uploads, and the seconds that each may take
_WISH = 2**16  # bytes


class Nothing(BaseModel):
    """A wish without details."""

    model_config = ConfigDict(extra="forbid")


class Refused(Exception):
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: int, words: str):
        super().__init__(words)
        self.status, self.words = status, words


def create(
    limits: Limits = Limits(), token: str | None = None, hosts: tuple[str, ...] = LOOPBACK
) -> FastAPI:
    """The application.

    Args:
        token: who knows it may enter; None lets everybody in who reaches the port.
        hosts: names under which it may be called, so that no other site reaches it through a
            visitor's browser; ("*",) for all.

    Example:
        >>> app = create(Limits(waiting=4))
        >>> app.title
        'innverse'
        >>> app.state.jobs.close()
    """
    jobs, uploads, arm = Jobs(limits), Uploads(limits), Arm()
    few = asyncio.Semaphore(_AT_ONCE)
    # one thread: large pictures are in memory once, and the allocator keeps it for one, not for all
    reader = ThreadPoolExecutor(1, "innverse uploads")

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async def forget():
            while True:
                await asyncio.sleep(min(60.0, limits.keep))
                uploads.forget()

        forgetting = asyncio.create_task(forget())
        yield
        forgetting.cancel()
        reader.shutdown(wait=False, cancel_futures=True)
        jobs.close()

    app = FastAPI(title="innverse", version=__version__, lifespan=lifespan,
                  docs_url=None, redoc_url=None, openapi_url=None)  # fmt: skip
    app.state.jobs, app.state.uploads = jobs, uploads

    @app.middleware("http")
    async def guard(request: Request, call_next):
        try:
            answer = _entry(request, token, hosts) or await call_next(request)
        except ClientDisconnect:  # nobody is there to read it
            answer = Response(status_code=400)
        except Exception as why:
            _log.exception("a request failed")
            words = f"an error of the program ({type(why).__name__}); see its log"
            answer = JSONResponse({"error": words}, 500)
        for name, value in _HEADERS.items():
            answer.headers.setdefault(name, value)
        answer.headers.setdefault("Cache-Control", "no-store")
        return answer

    @app.exception_handler(Refused)
    async def refused(request: Request, why: Refused):
        return JSONResponse({"error": why.words}, why.status)

    @app.exception_handler(Busy)
    async def busy(request: Request, why: Busy):
        return JSONResponse({"error": str(why)}, 429, {"Retry-After": f"{why.seconds:.0f}"})

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, why: HTTPException):
        return JSONResponse({"error": why.detail}, why.status_code, why.headers)

    @app.exception_handler(InnverseError)
    async def mistaken(request: Request, why: InnverseError):
        return JSONResponse({"error": " ".join(str(why).split())}, 400)

    def submit(work: Callable[[], Work]) -> dict:
        jobs.check_place()  # before anything is done for it
        return {"id": jobs.submit(work()).id}

    def job_named(id: str) -> Job:
        job = jobs.get(id)
        if job is None:
            raise Refused(404, "there is no such job (results are deleted after a while)")
        return job

    for path, (name, media) in _PAGE.items():
        app.get(path)(_static(name, media))

    @app.get("/health")
    def health() -> dict:
        return {"status": "ok", "version": __version__}

    @app.get("/api/limits")
    def what_is_allowed() -> dict:
        return {**vars(limits), "version": __version__, "arm": arm.ready}

    @app.post("/api/pictures", status_code=201)
    async def upload(request: Request) -> dict:
        media = "application/octet-stream"
        async with few:  # the others are not read meanwhile, so memory stays bounded
            try:
                async with asyncio.timeout(_PATIENCE):
                    data = await _body(request, media, limits.upload, "the file")
            except TimeoutError:
                raise Refused(408, "the file did not arrive in time") from None
            found = await asyncio.get_running_loop().run_in_executor(reader, uploads.add, data)
        c, h, w = found.pixels.shape
        return {"id": found.id, "width": w, "height": h, "channels": c, "notes": found.notes}

    @app.get("/api/pictures/{id}")
    def picture(id: str) -> Response:
        media, data = repair.file_of(uploads.get(id).picture)
        return Response(data, media_type=media)

    @app.post("/api/repair", status_code=202)
    def start_repair(wish: repair.Repair = _json(repair.Repair)) -> dict:
        return submit(lambda: repair.work_on(wish, uploads, limits))

    @app.post("/api/samples", status_code=202)
    def start_samples(wish: gallery.Samples = _json(gallery.Samples)) -> dict:
        return submit(lambda: gallery.samples(wish))

    @app.post("/api/between", status_code=202)
    def start_between(wish: gallery.Between = _json(gallery.Between)) -> dict:
        return submit(lambda: gallery.between(wish, uploads))

    @app.post("/api/arm/learn", status_code=202, dependencies=[_json(Nothing)])
    def start_arm() -> dict:
        return submit(lambda: arm.learn)

    @app.post("/api/arm/draws")
    def arm_draws(point: Point = _json(Point)) -> dict:
        return arm.draws(point)

    @app.get("/api/jobs/{id}")
    def state(id: str) -> dict:
        job = job_named(id)
        return {
            "state": job.state,
            "error": job.error,
            "before": jobs.before(job),
            "fraction": job.progress.fraction,
            "left": job.progress.left,
            "note": job.progress.note,
            "result": job.product.told,
            "files": [*job.product.files],
        }

    @app.delete("/api/jobs/{id}")
    def cancel(id: str) -> dict:
        jobs.cancel(job_named(id))
        return {}

    @app.get("/api/jobs/{id}/{name}")
    def file(id: str, name: str) -> Response:
        found = job_named(id).product.files.get(name)
        if found is None:
            raise Refused(404, "there is no such file")
        return Response(found[1], media_type=found[0])

    return app


def _static(name: str, media: str):
    data = (files("innverse.serve") / "page" / name).read_bytes()

    def answer() -> Response:
        return Response(data, media_type=media, headers={"Cache-Control": "no-cache"})

    return answer


def _entry(request: Request, token: str | None, hosts: tuple[str, ...]) -> Response | None:
    """A refusal, or nothing: other sites, and visitors without the token, stay outside."""
    name = re.sub(r":\d+$", "", request.headers.get("host", ""))
    if "*" not in hosts and name not in hosts:
        return JSONResponse({"error": "this server has other names: open the one it printed"}, 400)
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        return JSONResponse({"error": "requests of other sites are refused"}, 403)
    if token is None or request.url.path == "/health":
        return None
    cookie = f"innverse-{request.scope['server'][1]}"  # cookies know no ports
    asked = request.query_params.get("token", "")
    if hmac.compare_digest(asked.encode(), token.encode()):
        # into a cookie, and out of the address
        answer = Response(status_code=303, headers={"Location": "/"})
        # lax: strict ones are not sent after a click in somebody's mail, and nothing is done by GET
        answer.set_cookie(cookie, token, httponly=True, samesite="lax")
        return answer
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    for given in (request.cookies.get(cookie, ""), bearer):
        if hmac.compare_digest(given.encode(), token.encode()):
            return None
    return JSONResponse(
        {"error": "a token is needed: open the address that the server printed"}, 401
    )


def _json(model: type[BaseModel]):
    """The wish of a request. FastAPI would read a body of any length first; and no form of another
    site can send this type without being asked."""

    async def read(request: Request) -> BaseModel:
        data = await _body(request, "application/json", _WISH, "the request")
        try:
            return model.model_validate_json(data)
        except ValidationError as why:
            first = why.errors()[0]
            where = ".".join(str(part) for part in first["loc"])[:80]
            raise Refused(422, f"{where or 'the request'}: {first['msg']}") from None

    return Depends(read)


async def _body(request: Request, media: str, most: int, label: str) -> bytes:
    """The body, of at most so many bytes, whatever its header says.

    What is a little too long is read to its end and thrown away: who still sends hears no answer.
    """
    if request.headers.get("content-type", "").split(";")[0].strip() != media:
        raise Refused(415, f"{label} must come as {media} (the Content-Type)")
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            parts.clear()
        else:
            parts.append(chunk)
        if size > 8 * most:
            break
    if size > most:
        allowed = f"{most // 2**20} MB" if most >= 2**20 else f"{most // 2**10} kB"
        raise Refused(413, f"{label} is larger than {allowed}, the most that is taken")
    return b"".join(parts)
