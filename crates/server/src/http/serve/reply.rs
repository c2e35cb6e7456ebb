//! The application as one connection sees it: what it is asked, and when its reply is out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::routing::future::RouteFuture;
use http::Request;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::ConnectionControl;
use super::seats::{GaveWay, Seat};

/// Every request carries the connection's control, and keeps the connection's seat until its reply is handed over.
pub(super) struct Application {
    router: Router,
    control: ConnectionControl,
    seat: Arc<Seat>,
}

impl Application {
    pub(super) fn new(router: Router, control: ConnectionControl, seat: Arc<Seat>) -> Self {
        Self { router, control, seat }
    }
}

impl hyper::service::Service<Request<Incoming>> for Application {
    type Response = Response<Reply>;
    type Error = GaveWay;
    type Future = Answering;

    /// A connection that has given way answers nothing more: it ends as an idle one may at any time.
    fn call(&self, mut request: Request<Incoming>) -> Answering {
        if self.seat.begin().is_err() {
            return Answering(None);
        }
        let under_way = UnderWay::new(self.control.clone());
        request.extensions_mut().insert(self.control.clone());
        Answering(Some((tower::Service::call(&mut self.router.clone(), request), Some(under_way))))
    }
}

/// A request without its reply; nothing when it came too late.
pub(super) struct Answering(Option<(RouteFuture<std::convert::Infallible>, Option<UnderWay>)>);

impl Future for Answering {
    type Output = Result<Response<Reply>, GaveWay>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some((reply, under_way)) = &mut self.0 else { return Poll::Ready(Err(GaveWay)) };
        let Ok(reply) = ready!(Pin::new(reply).poll(cx));
        let under_way = under_way.take();
        Poll::Ready(Ok(reply.map(|body| Reply { body, _under_way: under_way })))
    }
}

/// Lasts from a request's head to the last of its reply.
struct UnderWay(ConnectionControl);

impl UnderWay {
    fn new(control: ConnectionControl) -> Self {
        control.answering(true);
        Self(control)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.answering(false);
    }
}

/// A reply's body, which hyper drops when it has taken all of it.
pub(super) struct Reply {
    body: Body,
    _under_way: Option<UnderWay>,
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
