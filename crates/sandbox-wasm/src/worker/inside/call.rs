//! A line's calls, one after the other, each run in the line's own task: its end ends the guest.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use http::Request;
use http_body::Body as HttpBody;
use sandbox::{Body, Event, Fault, Instance, Output, Payload};

use super::super::head::{self, Told};
use super::super::line::{CHUNK, Kind, Line, WAITING, WINDOW};
use super::relayed::{Received, Upload};
use super::{Inside, Relayed};
use crate::instance::WasmInstance;
use crate::stdio::Log;

/// The line is of no more use: the server has closed it, or what came on it makes no sense.
struct Over;

/// A call on the line.
struct Call<'a> {
    line: &'a mut Line,
    upload: Option<Arc<Upload>>,
    printed: Arc<Relayed>,
}

/// Serves a line until the server closes it.
pub(super) async fn serve(inside: Arc<Inside>, descriptor: OwnedFd) {
    let Ok(mut line) = super::line(descriptor) else { return };
    loop {
        let Ok(Some((kind, bytes))) = poll_fn(|cx| line.poll_frame(cx)).await else { return };
        let Some((instance, payload, upload)) = read(kind, bytes) else {
            // The rest of a body that its guest has not waited for.
            if matches!(kind, Kind::Data | Kind::End | Kind::Broken) {
                continue;
            }
            return;
        };
        let call = Call { line: &mut line, upload, printed: Arc::default() };
        let ended = match inside.instance(instance) {
            Some(instance) => call.run(&instance, payload).await,
            None => call.fault(0, Told::Stopped).await,
        };
        if ended.is_err() {
            return;
        }
        line.rest();
    }
}

/// The instance, what it is called with, and what takes the rest of the body.
fn read(kind: Kind, mut bytes: Bytes) -> Option<(u64, Payload, Option<Arc<Upload>>)> {
    match kind {
        Kind::Event => {
            let instance = bytes.try_get_u64_le().ok()?;
            let event = Event {
                json: bytes,
                invoked_arn: String::new(),
                trace_id: String::new(),
                client_context: None,
                cognito_identity: None,
            };
            Some((instance, Payload::Event(event), None))
        }
        Kind::Request => {
            let (instance, streamed, request) = head::take_request(bytes)?;
            let upload = streamed.then(Arc::<Upload>::default);
            let request: Request<Body> = request.map(|whole| match &upload {
                Some(upload) => Body::boxed(Received(Arc::clone(upload))),
                None => whole.into(),
            });
            Some((instance, Payload::Http(Box::new(request)), upload))
        }
        _ => None,
    }
}

impl Call<'_> {
    async fn run(mut self, instance: &WasmInstance, payload: Payload) -> Result<(), Over> {
        let outcome = {
            let mut running = pin!(instance.run(payload, Log::Relayed(Arc::clone(&self.printed))));
            poll_fn(|cx| {
                self.poll_input(cx)?;
                let polled = running.as_mut().poll(cx);
                self.send_along(cx)?;
                polled.map(Ok)
            })
            .await?
        };
        match outcome {
            Err(fault) => self.fault(instance.peak_memory(), fault.into()).await,
            Ok(Output::Event(answer)) => {
                let peak = instance.peak_memory();
                self.last(Kind::Answer, peak, &answer).await
            }
            Ok(Output::Http(response)) => self.response(instance, response).await,
            Ok(Output::FunctionError(_) | Output::Stream(_) | Output::NotTaken(..)) => {
                let fault =
                    Fault::BadAnswer("a guest reports no errors of its own and takes every call".into());
                self.fault(0, fault.into()).await
            }
        }
    }

    async fn fault(self, peak: u64, told: Told) -> Result<(), Over> {
        let text = serde_json::to_vec(&told).unwrap_or_default();
        self.last(Kind::Fault, peak, &text).await
    }

    /// The last frame of a call, which begins with the peak of memory.
    async fn last(mut self, kind: Kind, peak: u64, bytes: &[u8]) -> Result<(), Over> {
        self.take_printed();
        self.line.push(kind, |to| {
            to.put_u64_le(peak);
            to.put_slice(bytes);
        });
        self.flushed().await
    }

    async fn response(mut self, instance: &WasmInstance, response: http::Response<Body>) -> Result<(), Over> {
        let (parts, body) = response.into_parts();
        let mut body = match body {
            Body::Full(full) if full.size_hint().upper().is_some_and(|size| size <= CHUNK as u64) => {
                let whole = full.into_inner().unwrap_or_default();
                let peak = instance.peak_memory();
                self.take_printed();
                self.line.push(Kind::Response, |to| {
                    head::put_response(to, peak, &parts);
                    to.put_slice(&whole);
                });
                return self.flushed().await;
            }
            body => body,
        };
        self.take_printed();
        self.line.push(Kind::Head, |to| head::put_response(to, 0, &parts));
        let ended = poll_fn(|cx| self.poll_body(cx, &mut body)).await?;
        // Its guest is over, and what it had.
        drop(body);
        let peak = instance.peak_memory();
        match ended {
            Ok(()) => self.last(Kind::End, peak, b"").await,
            Err(why) => self.last(Kind::Broken, peak, why.as_bytes()).await,
        }
    }

    /// Sends a body on as it comes, to its end.
    fn poll_body(&mut self, cx: &mut Context<'_>, body: &mut Body) -> Poll<Result<Result<(), String>, Over>> {
        self.poll_input(cx)?;
        loop {
            if self.send_along(cx)? > WAITING {
                return Poll::Pending;
            }
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => {
                    self.send_along(cx)?;
                    return Poll::Pending;
                }
                Poll::Ready(None) => return Poll::Ready(Ok(Ok(()))),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Ok(Err(error.to_string()))),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        for piece in data.chunks(CHUNK) {
                            self.line.push(Kind::Data, |to| to.put_slice(piece));
                        }
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.line.push(Kind::Trailers, |to| head::put_headers(to, &trailers));
                        }
                    }
                },
            }
        }
    }

    /// Takes in what has come of the request; the end of the line ends the call.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Result<(), Over> {
        while let Poll::Ready(frame) = self.line.poll_frame(cx) {
            let (Ok(Some((kind, bytes))), Some(upload)) = (frame, &self.upload) else { return Err(Over) };
            match kind {
                Kind::Data => upload.push(bytes),
                Kind::End => upload.end(Ok(())),
                Kind::Broken => upload.end(Err(String::from_utf8_lossy(&bytes).into_owned())),
                _ => return Err(Over),
            }
        }
        Ok(())
    }

    fn take_printed(&mut self) {
        if let Some(printed) = self.printed.take() {
            for piece in printed.chunks(CHUNK) {
                self.line.push(Kind::Printed, |to| to.put_slice(piece));
            }
        }
    }

    /// Sends what was printed and read meanwhile; how many bytes wait.
    fn send_along(&mut self, cx: &mut Context<'_>) -> Result<usize, Over> {
        if self.line.waiting() < WAITING {
            self.take_printed();
        }
        if let Some(credit) = self.upload.as_ref().and_then(|upload| upload.credit(WINDOW / 4)) {
            self.line.push(Kind::Credit, |to| to.put_u32_le(credit));
        }
        match self.line.poll_flush(cx) {
            Poll::Ready(Err(_)) => Err(Over),
            _ => Ok(self.line.waiting()),
        }
    }

    async fn flushed(self) -> Result<(), Over> {
        poll_fn(|cx| self.line.poll_flush(cx)).await.map_err(|_| Over)
    }
}
