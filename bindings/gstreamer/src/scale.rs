//! Owns the element: its properties, its connection to a daemon, and what GStreamer asks of it.
//!
//! Knows of negotiation, geometry and frames only whom to ask. Invariants: the connection lives from
//! the element's start to its stop, a stream from one negotiation to the next; no lock is held while a
//! frame is waited for.

// What glib's macro makes of the properties.
#![allow(unreachable_pub)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::BaseTransformMode;
use gst_base::subclass::base_transform::{
    GenerateOutputSuccess, InputBuffer, PrepareOutputBufferSuccess,
};
use gst_base::subclass::prelude::*;
use gst_video::subclass::prelude::*;
use gst_video::{VideoBufferPool, VideoInfo, VideoMeta, VideoRegionOfInterestMeta};
use resized_anywhere::Daemon;
use resized_client::{Client, Filter, Reconnect};

use crate::caps;
use crate::work::{Failure, Refused, Work};

static CATEGORY: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    let colour = gst::DebugColorFlags::empty();
    gst::DebugCategory::new("resizedscale", colour, Some("Scaling by the resized daemon"))
});

glib::wrapper! {
    /// The element.
    pub(crate) struct ResizedScale(ObjectSubclass<Scale>)
        @extends gst_video::VideoFilter, gst_base::BaseTransform, gst::Element, gst::Object;
}

/// Makes the element known.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    // Whoever asks for a scaler by rank goes on getting GStreamer's own.
    let rank = gst::Rank::NONE;
    gst::Element::register(Some(plugin), "resizedscale", rank, ResizedScale::static_type())
}

/// The daemon's filters, in its own order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstResizedScaleMethod")]
#[repr(i32)]
pub(crate) enum Method {
    #[enum_value(name = "Nearest neighbour, never antialiased", nick = "nearest")]
    Nearest,
    #[enum_value(name = "Bilinear (triangle)", nick = "bilinear")]
    Bilinear,
    #[default]
    #[enum_value(name = "Bicubic (Catmull-Rom)", nick = "bicubic")]
    Bicubic,
    #[enum_value(name = "Lanczos, three lobes", nick = "lanczos3")]
    Lanczos3,
    #[enum_value(name = "Mean over the area", nick = "area")]
    Area,
    #[enum_value(name = "Mitchell and Netravali's cubic", nick = "mitchell")]
    Mitchell,
}

impl Method {
    const fn filter(self) -> Filter {
        match self {
            Self::Nearest => Filter::Nearest,
            Self::Bilinear => Filter::Bilinear,
            Self::Bicubic => Filter::Bicubic,
            Self::Lanczos3 => Filter::Lanczos3,
            Self::Area => Filter::Area,
            Self::Mitchell => Filter::Mitchell,
        }
    }
}

#[derive(Clone)]
struct Settings {
    method: Method,
    add_borders: bool,
    endpoint: Option<String>,
    /// Seconds.
    reconnect: f64,
}

impl Default for Settings {
    fn default() -> Self {
        let reconnect = Reconnect::default().within.as_secs_f64();
        Self { method: Method::default(), add_borders: true, endpoint: None, reconnect }
    }
}

#[derive(Default, glib::Properties)]
#[properties(wrapper_type = ResizedScale)]
pub(crate) struct Scale {
    #[property(
        name = "method", type = Method, member = method, get, set, mutable_ready,
        builder(Method::default())
            .nick("Method")
            .blurb("How the output's pixels are made; counts when caps are negotiated next")
    )]
    #[property(
        name = "add-borders", type = bool, member = add_borders, get, set, mutable_ready,
        default = true, nick = "Add Borders",
        blurb = "Add black borders if necessary to keep the display aspect ratio"
    )]
    #[property(
        name = "endpoint", type = Option<String>, member = endpoint, get, set, mutable_ready,
        nick = "Endpoint",
        blurb = "Where the daemon is: unix:/path/to/socket, tcp://host:port, tls://host:port, or \
                 'embedded' for one in this process; if not set, $RESIZED_ENDPOINT, else the user's \
                 service, the system's, or one in this process, on the cores alone"
    )]
    #[property(
        name = "reconnect", type = f64, member = reconnect, get, set, mutable_ready,
        minimum = 0.0, maximum = 86_400.0, default = 30.0, nick = "Reconnect",
        blurb = "For how many seconds a daemon that went away is looked for before the pipeline fails"
    )]
    settings: Mutex<Settings>,
    client: Mutex<Option<Client>>,
    /// `None`: buffers go through as they are.
    work: Mutex<Option<Arc<Work>>>,
    /// Downstream reads where a frame's rows are, and has no memory of its own for them.
    lends: AtomicBool,
    flushing: AtomicBool,
    stopping: AtomicBool,
}

#[glib::object_subclass]
impl ObjectSubclass for Scale {
    const NAME: &'static str = "GstResizedScale";
    type Type = ResizedScale;
    type ParentType = gst_video::VideoFilter;
}

#[glib::derived_properties]
impl ObjectImpl for Scale {}

impl GstObjectImpl for Scale {}

impl ElementImpl for Scale {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Video scaler by the resized daemon",
                "Filter/Converter/Video/Scaler",
                env!("CARGO_PKG_DESCRIPTION"),
                "the resized authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let pads = [("sink", gst::PadDirection::Sink), ("src", gst::PadDirection::Src)];
            let template = |(name, direction)| {
                let always = gst::PadPresence::Always;
                gst::PadTemplate::new(name, direction, always, &caps::template())
            };
            pads.map(|pad| template(pad).expect("a template of valid caps")).into()
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::PausedToReady {
            self.stopping.store(true, Ordering::Relaxed);
        }
        self.parent_change_state(transition)
    }
}

impl BaseTransformImpl for Scale {
    const MODE: BaseTransformMode = BaseTransformMode::NeverInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = true;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let Settings { endpoint, reconnect, .. } = lock(&self.settings).clone();
        let reconnect = match Duration::try_from_secs_f64(reconnect) {
            Ok(within) if within > Duration::ZERO => Reconnect { within, ..Reconnect::default() },
            _ => Reconnect::NEVER,
        };
        let named = endpoint.as_deref();
        let daemon = named.map_or_else(|| Daemon::find(None), Daemon::named).map_err(no_daemon)?;
        let client = daemon.connect_with(reconnect).map_err(no_daemon)?;
        gst::debug!(CATEGORY, imp = self, "devices: {:?}", client.devices());
        *lock(&self.client) = Some(client);
        self.stopping.store(false, Ordering::Relaxed);
        self.flushing.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        self.end_work();
        // Dropped without the lock: an embedded daemon ends what it is at.
        let client = lock(&self.client).take();
        drop(client);
        Ok(())
    }

    fn transform_caps(
        &self,
        direction: gst::PadDirection,
        caps: &gst::Caps,
        filter: Option<&gst::Caps>,
    ) -> Option<gst::Caps> {
        Some(caps::transform(direction, caps, filter.map(|filter| &**filter)))
    }

    fn fixate_caps(
        &self,
        direction: gst::PadDirection,
        known: &gst::Caps,
        others: gst::Caps,
    ) -> gst::Caps {
        caps::fixate(direction, known, others)
    }

    fn decide_allocation(
        &self,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        let plain = |pool: &gst::BufferPool| pool.type_() == VideoBufferPool::static_type();
        let reads_meta = query.find_allocation_meta::<VideoMeta>().is_some();
        let pool = query.allocation_pools().next().and_then(|(pool, ..)| pool);
        let lends = reads_meta && pool.as_ref().is_none_or(plain);
        self.lends.store(lends, Ordering::Relaxed);
        self.parent_decide_allocation(query)
    }

    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        let Some(work) = lock(&self.work).clone() else {
            return self.parent_generate_output();
        };
        let Some(input) = self.take_queued_buffer() else {
            return Ok(GenerateOutputSuccess::NoOutput);
        };
        let stop = || self.is_given_up();
        let frame = work.resize(&input, stop).map_err(|failure| self.failed(&failure))?;
        let lends = self.lends.load(Ordering::Relaxed);
        let output = match work.share(lends, frame.layout()) {
            Some(share) => {
                let lent = work.lend(frame, share);
                let mut output = lent.map_err(|failure| self.failed(&failure))?;
                self.copy_metadata(&input, output.make_mut()).map_err(|error| {
                    error.log();
                    gst::FlowError::Error
                })?;
                output
            }
            None => {
                let prepared = self.parent_prepare_output_buffer(InputBuffer::Readable(&input))?;
                let PrepareOutputBufferSuccess::Buffer(mut output) = prepared else {
                    return Err(gst::FlowError::Error);
                };
                let copied = work.copy(&frame, output.make_mut());
                copied.map_err(|failure| self.failed(&failure))?;
                output
            }
        };
        Ok(GenerateOutputSuccess::Buffer(output))
    }

    /// A region of interest is somewhere else now. All else is as for every filter.
    fn transform_meta<'a>(
        &self,
        output: &mut gst::BufferRef,
        meta: gst::MetaRef<'a, gst::Meta>,
        input: &'a gst::BufferRef,
    ) -> bool {
        let work = lock(&self.work).clone();
        let (Some(work), Some(region)) = (work, meta.downcast_ref::<VideoRegionOfInterestMeta>())
        else {
            return self.parent_transform_meta(output, meta, input);
        };
        let place = work.place(region.rect());
        let mut made = VideoRegionOfInterestMeta::add(output, region.roi_type(), place);
        made.set_id(region.id());
        made.set_parent_id(region.parent_id());
        region.params().for_each(|params| made.add_param(params.to_owned()));
        // It is there: there is nothing to copy.
        false
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.type_() {
            gst::EventType::FlushStart => self.flushing.store(true, Ordering::Relaxed),
            gst::EventType::FlushStop => self.flushing.store(false, Ordering::Relaxed),
            _ => {}
        }
        let interlaced = match event.view() {
            gst::EventView::Caps(caps) => !caps::are_resized(caps.caps()),
            _ => false,
        };
        let taken = self.parent_sink_event(event);
        // Of caps that don't fit nobody else says why.
        if interlaced && !taken && !self.is_given_up() {
            let _ = self.failed(&Failure::Interlaced);
        }
        taken
    }

    /// Where a pointer is on the output is somewhere else on the input.
    fn src_event(&self, mut event: gst::Event) -> bool {
        if event.type_() == gst::EventType::Navigation
            && let Some(work) = lock(&self.work).clone()
        {
            let structure = event.make_mut().structure_mut();
            let at = (structure.get::<f64>("pointer_x"), structure.get::<f64>("pointer_y"));
            if let (Ok(x), Ok(y)) = at {
                let (x, y) = work.point_back((x, y));
                structure.set("pointer_x", x);
                structure.set("pointer_y", y);
            }
        }
        self.parent_src_event(event)
    }
}

impl VideoFilterImpl for Scale {
    fn set_info(
        &self,
        _in_caps: &gst::Caps,
        from: &VideoInfo,
        _out_caps: &gst::Caps,
        to: &VideoInfo,
    ) -> Result<(), gst::LoggableError> {
        // The old stream first: its memory counts.
        self.end_work();
        let Settings { method, add_borders, .. } = *lock(&self.settings);
        let client = lock(&self.client).clone();
        let client = client.ok_or_else(|| gst::loggable_error!(CATEGORY, "not started"))?;
        let stop = || self.is_given_up();
        let work = Work::new(&client, (from, to), method.filter(), add_borders, stop);
        let work = work.map_err(|refused| {
            if !matches!(refused, Refused::Flushing) {
                gst::element_imp_error!(self, gst::ResourceError::Settings, ("{refused}"));
            }
            gst::loggable_error!(CATEGORY, "{refused}")
        })?;
        self.obj().set_passthrough(work.is_none());
        *lock(&self.work) = work.map(Arc::new);
        Ok(())
    }
}

impl Scale {
    /// Ends the stream, and drops it without the lock: its daemon is told, which may not be reading.
    fn end_work(&self) {
        let work = lock(&self.work).take();
        drop(work);
    }

    /// Whether nobody wants any more what is waited for.
    fn is_given_up(&self) -> bool {
        self.stopping.load(Ordering::Relaxed) || self.flushing.load(Ordering::Relaxed)
    }

    /// Says so on the bus, unless there is nothing to say.
    fn failed(&self, failure: &Failure) -> gst::FlowError {
        match failure {
            Failure::Flushing => return gst::FlowError::Flushing,
            Failure::Client(_) => {
                gst::element_imp_error!(self, gst::ResourceError::Failed, ("{failure}"));
            }
            Failure::Buffer(_) | Failure::Rows(_) | Failure::Interlaced => {
                gst::element_imp_error!(self, gst::StreamError::Format, ("{failure}"));
            }
        }
        gst::FlowError::Error
    }
}

fn no_daemon(error: impl std::fmt::Display) -> gst::ErrorMessage {
    gst::error_msg!(gst::ResourceError::OpenReadWrite, ("{error}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
