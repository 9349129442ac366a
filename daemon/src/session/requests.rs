//! Owns what each request of a client's comes to: the checks, the streams it opens and closes, the
//! jobs made of what it submits, the replies.
//!
//! Invariant: everything a client says is checked here, once, before anything is done about it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use resized_protocol::VERSION;
use resized_protocol::message::{
    Features, MAX_NAME, Message, Refusal, Reply, Request, StreamSpec, Violation,
};
use resized_protocol::placement::Crop;

use super::end::End;
use super::outbox::NoRoom;
use super::{PATIENCE, Passing, Session, in_turn};
use crate::job::{Invitation, Job, Owner, Stream, StreamId};

impl Session {
    pub(super) async fn answer(&mut self, request: Request) -> Result<(), End> {
        match (request, self.features) {
            (Request::Hello { version, features, name }, None) => {
                self.hello(version, features, &name)
            }
            (Request::Hello { .. }, Some(_)) => Err(Violation::SecondHello.into()),
            (_, None) => Err(Violation::NoHello.into()),
            (Request::Open { stream, spec, named }, Some(features)) => {
                self.open(stream, spec, named, features).await
            }
            (Request::Submit { stream, slots }, _) => {
                self.submit(stream, slots.into_iter().map(|slot| (slot, None)))
            }
            (Request::SubmitCropped { stream, slots }, _) => {
                self.submit(stream, slots.into_iter().map(|at| (at.slot, Some(at.crop))))
            }
            (Request::Cancel { stream, slot }, _) => self.cancel(stream, slot),
            (Request::Close { stream }, _) => self.close(stream).await,
            (Request::Stats, _) => {
                self.reply(Reply::Stats(self.shared.stats()));
                Ok(())
            }
            (Request::Clients { from }, _) => {
                let clients = self.shared.metrics.clients(from, |uid| self.may_see(uid));
                self.reply(Reply::Clients(clients));
                Ok(())
            }
            (Request::Streams { client, from }, _) => {
                let streams = self.shared.metrics.streams(client, from, |uid| self.may_see(uid));
                self.reply(Reply::Streams(streams));
                Ok(())
            }
        }
    }

    fn hello(&mut self, version: u16, features: Features, name: &str) -> Result<(), End> {
        let refusal = if version != VERSION {
            Some(Refusal::Version { daemon: VERSION, client: version })
        } else if !self.rights.welcome {
            Some(Refusal::User { uid: self.uid() })
        } else {
            None
        };
        if let Some(refusal) = refusal {
            tracing::warn!(client = self.client, %refusal, "refused");
            self.refuse(refusal);
            return Err(End::Refused);
        }
        let offered = match self.rights.named_segments {
            true => Features::NAMED_SEGMENTS,
            false => Features::default(),
        };
        let features = features.intersection(offered);
        self.features = Some(features);
        let name: String =
            name.chars().filter(|letter| !letter.is_control()).take(MAX_NAME).collect();
        tracing::debug!(client = self.client, uid = self.uid(), name, "hello");
        self.metrics.set_name(name);
        let devices = self.shared.scheduler.devices().iter();
        let devices = devices.map(|device| device.name().to_owned()).collect();
        self.reply(Reply::Welcome { version: VERSION, features, devices });
        Ok(())
    }

    async fn open(
        &mut self,
        number: u32,
        spec: StreamSpec,
        named: bool,
        features: Features,
    ) -> Result<(), End> {
        if u64::from(number) < self.next_stream {
            return Err(Violation::StreamNumber(number).into());
        }
        self.next_stream = u64::from(number) + 1;
        let (stream, invitation) = match self.try_open(number, spec, named, features).await {
            Ok(opened) => opened,
            Err(refusal) => {
                tracing::info!(client = self.client, uid = self.uid(), %refusal, "stream refused");
                self.refuse(refusal);
                return Ok(());
            }
        };
        let Invitation { backing, descriptor } = invitation;
        let ring = stream.ring().clone();
        let opened = Message::Reply(Reply::Opened { stream: number, ring, backing });
        match self.pass(&opened, descriptor).await {
            Ok(()) => {
                self.streams.insert(number, Arc::new(stream));
            }
            Err(errno) => {
                tracing::warn!(client = self.client, %errno, "a ring can't be passed");
                let _ = self.aside(|| drop(stream)).await;
                self.refuse(self.not_passed(errno));
            }
        }
        Ok(())
    }

    /// What a client is told whose ring the system did not pass in time: a daemon that stops waits no
    /// longer, and that is no fault of the system's.
    fn not_passed(&self, errno: Errno) -> Refusal {
        match *self.stop.borrow() {
            true => Refusal::Stopping,
            false => Refusal::System { errno: errno as i32 },
        }
    }

    /// Sends a message and a descriptor, if there is one, beside it, as soon as the system has room for
    /// one more on its way. What else there is of the daemon's user may take that room, for a moment.
    async fn pass(&mut self, message: &Message, descriptor: Option<OwnedFd>) -> Result<(), Errno> {
        let is_alone = descriptor.is_none();
        let mut outcome = self.outbox.post_beside(message, descriptor);
        let sent = |session: &Self| {
            if let Err(NoRoom { descriptor, .. }) = &mut outcome {
                outcome = session.outbox.post_beside(message, descriptor.take());
            }
            outcome.is_ok()
        };
        self.await_that(sent, PATIENCE).await;
        match outcome {
            Ok(_) if is_alone => {}
            Ok(true) => self.passing = Passing::Unread,
            Ok(false) => self.passing = Passing::Withheld,
            Err(NoRoom { errno, .. }) => return Err(errno),
        }
        Ok(())
    }

    async fn try_open(
        &self,
        number: u32,
        spec: StreamSpec,
        named: bool,
        features: Features,
    ) -> Result<(Stream, Invitation), Refusal> {
        if self.stopping {
            return Err(Refusal::Stopping);
        }
        if named && !features.contains(Features::NAMED_SEGMENTS) {
            return Err(Refusal::NamedSegments);
        }
        if !spec.coding.is_raw() {
            return Err(Refusal::Coded);
        }
        let may_pass =
            |session: &Self| session.passing == Passing::Over || session.outbox.is_read();
        if !named && !self.await_that(may_pass, PATIENCE).await {
            if !*self.stop.borrow() {
                tracing::warn!(client = self.client, "the client did not read its last ring");
            }
            return Err(self.not_passed(Errno::ETOOMANYREFS));
        }
        let shared = Arc::clone(&self.shared);
        let account = Arc::clone(self.place.account());
        let client = Arc::clone(&self.metrics);
        let id = StreamId { user: account.uid(), client: self.client, number };
        // Zeroing pages takes milliseconds.
        let open = move || {
            let counted = shared.metrics.streams.count();
            let owner = Owner { account: &account, client: &client, counted };
            Stream::open(id, &spec, named, shared.scheduler.devices(), owner)
        };
        let mut stop = self.stop.clone();
        let turn = tokio::select! {
            turn = self.meanwhile(self.place.account().turn()) => turn,
            _ = stop.wait_for(|&stop| stop) => return Err(Refusal::Stopping),
        };
        self.meanwhile(in_turn(turn, open)).await.map_err(|error| {
            tracing::error!(%error, ?spec, "a device panicked over a stream");
            Refusal::Device
        })?
    }

    fn submit(
        &mut self,
        number: u32,
        slots: impl ExactSizeIterator<Item = (u32, Option<Crop>)> + Clone,
    ) -> Result<(), End> {
        let stream = self.streams.get(&number).ok_or(Violation::UnknownStream(number))?;
        if slots.len() == 0 {
            return Err(Violation::EmptySubmit.into());
        }
        for (slot, crop) in slots.clone() {
            if crop.is_some_and(|crop| !stream.can_crop(crop)) {
                return Err(Violation::Crop { stream: number, slot }.into());
            }
            match stream.take(slot) {
                None => return Err(Violation::UnknownSlot { stream: number, slot }.into()),
                Some(false) => return Err(Violation::SlotBusy { stream: number, slot }.into()),
                Some(true) => {}
            }
        }
        self.outbox.expect(slots.len());
        let submitted = Instant::now();
        let job = |(slot, crop)| {
            let sink = Arc::clone(&self.outbox);
            Job::new(Arc::clone(stream), slot, crop, submitted, sink)
        };
        self.shared.scheduler.push(stream.id(), slots.map(job));
        Ok(())
    }

    fn cancel(&mut self, stream: u32, slot: u32) -> Result<(), End> {
        self.streams.get(&stream).ok_or(Violation::UnknownStream(stream))?.cancel(slot);
        Ok(())
    }

    async fn close(&mut self, number: u32) -> Result<(), End> {
        let stream = self.streams.remove(&number).ok_or(Violation::UnknownStream(number))?;
        let withdrawn = self.shared.scheduler.withdraw(stream.id());
        self.outbox.forget(withdrawn.len(), stream.closed());
        // Freeing pages takes as long as zeroing them did. Waited for, so that they can be had again.
        if let Err(error) = self.aside(|| drop((stream, withdrawn))).await {
            tracing::error!(%error, "a device panicked over the end of a stream");
        }
        self.reply(Reply::Closed { stream: number });
        Ok(())
    }

    /// Whether this client is shown the figures of that user's.
    fn may_see(&self, uid: u32) -> bool {
        self.rights.sees_all || uid == self.uid()
    }

    fn refuse(&self, refusal: Refusal) {
        self.shared.metrics.refused.add(1);
        self.reply(Reply::Refused(refusal));
    }

    fn reply(&self, reply: Reply) {
        self.outbox.post(&Message::Reply(reply));
    }
}
