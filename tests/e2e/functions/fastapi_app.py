"""A FastAPI application as its authors write them: no server, no port."""

import asyncio
import contextlib
import os

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse


@contextlib.asynccontextmanager
async def lifespan(application):
    yield {"began": os.getpid()}


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def hello(request: Request, name: str = "world"):
    return {"message": f"Hello, {name}!", "began": request.state.began == os.getpid(), "client": request.client.host}


@app.get("/items/{number}")
def item(number: int):
    return number * 2


@app.post("/count")
async def count(request: Request):
    length = 0
    async for piece in request.stream():
        length += len(piece)
    return {"length": length}


@app.get("/events")
async def events(request: Request):
    async def ticks():
        yield "data: 0\n\n"
        # Ends when the caller leaves.
        while not await request.is_disconnected():
            await asyncio.sleep(0.01)
        print("the caller left", flush=True)

    return StreamingResponse(ticks(), media_type="text/event-stream")


@app.get("/breaks")
async def breaks():
    async def half():
        yield "half"
        raise RuntimeError("broken on purpose")

    return StreamingResponse(half())


@app.websocket("/socket")
async def socket(connection: WebSocket):
    await connection.accept(subprotocol="chat")
    while (text := await connection.receive_text()) != "bye":
        await connection.send_text(text.upper())
    await connection.close(4001, "so long")
