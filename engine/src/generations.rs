//! An engine that is replaced when it dies. Its owner asks for the present one each time, starts the
//! next one when a worker has died, and installs its queries anew; what metadata functions read is
//! carried over. It supervises nothing by itself.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use weir_types::metadata::MetadataSnapshot;

use crate::api::{EngineConfig, EngineError, EngineEvent};
use crate::engine::Engine;
use crate::mesh::Mesh;

/// Called on worker threads with the generation that speaks; must not block.
pub type EmitOfGeneration = Arc<dyn Fn(u64, EngineEvent) + Send + Sync>;

pub struct Generations {
    config: EngineConfig,
    emit: EmitOfGeneration,
    present: RwLock<(u64, Arc<Engine>)>,
    metadata: Mutex<Arc<MetadataSnapshot>>,
    restarting: Mutex<()>,
}

fn start(
    config: &EngineConfig,
    emit: &EmitOfGeneration,
    generation: u64,
) -> Result<Arc<Engine>, EngineError> {
    let emit = Arc::clone(emit);
    let engine = Engine::start(config.clone(), Arc::new(move |event| emit(generation, event)))?;
    Ok(Arc::new(engine))
}

impl Generations {
    /// Starts the first one. Of several processes it is dead until all have come: it is restarted as any other.
    ///
    /// # Errors
    /// If threads cannot be started.
    pub fn start(config: EngineConfig, emit: EmitOfGeneration) -> Result<Generations, EngineError> {
        let first = if config.mesh.is_some() {
            // Nobody waits for the other processes here; [`Generations::restart`] does.
            let emit = Arc::clone(&emit);
            Arc::new(Engine::absent(config.clone(), Arc::new(move |event| emit(1, event))))
        } else {
            start(&config, &emit, 1)?
        };
        Ok(Generations {
            config,
            emit,
            present: RwLock::new((1, first)),
            restarting: Mutex::default(),
            metadata: Mutex::default(),
        })
    }

    /// The present engine. It may be dead: then what is installed on it fails.
    #[must_use]
    pub fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// From 1; one more with each restart.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.present.read().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Starts the next engine in place of the present one, which ends on a thread of its own: one of its
    /// workers may hang. Nothing is installed on the new one.
    ///
    /// # Errors
    /// If threads cannot be started; the present engine stays. Of several processes: if it was stopped while it
    /// waited for all of them.
    pub fn restart(&self) -> Result<Arc<Engine>, EngineError> {
        let _alone = self.restarting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.config.mesh.is_some() && !self.is_dead() {
            // Somebody else has waited for the others.
            return Ok(self.engine());
        }
        let generation = self.generation() + 1;
        let next = start(&self.config, &self.emit, generation)?;
        next.set_metadata(self.metadata());
        let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
        let (_, former) = std::mem::replace(&mut *present, (generation, Arc::clone(&next)));
        drop(present);
        let reaper = std::thread::Builder::new().name(format!("{}-former", self.config.name));
        // Without a thread for it, whoever drops it last waits.
        drop(reaper.spawn(move || drop(former)));
        Ok(next)
    }

    fn metadata(&self) -> Arc<MetadataSnapshot> {
        Arc::clone(&self.metadata.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// For the present engine and those to come.
    pub fn set_metadata(&self, metadata: Arc<MetadataSnapshot>) {
        let mut held = self.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        let former = std::mem::replace(&mut *held, Arc::clone(&metadata));
        drop(held);
        drop(former);
        self.engine().set_metadata(metadata);
    }

    /// True if the present engine has died: it is time for the next one.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.engine().is_dead()
    }

    /// The processes that are one engine together.
    #[must_use]
    pub fn mesh(&self) -> Option<&Mesh> {
        self.config.mesh.as_ref()
    }

    /// Stops the present engine and waits for it.
    pub fn stop(&self) {
        if let Some(mesh) = &self.config.mesh {
            mesh.stop();
        }
        self.engine().stop();
    }
}

/// How long to wait before the next restart. The wait doubles with each restart within a minute.
#[derive(Debug, Default)]
pub struct RestartPace {
    /// Monotonic, ascending.
    recent_ns: VecDeque<u64>,
}

/// Restarts further back count no more.
const PACE_WINDOW_NS: u64 = 60_000_000_000;
const PACE_WAIT_MIN: Duration = Duration::from_millis(50);
const PACE_WAIT_MAX: Duration = Duration::from_secs(5);

impl RestartPace {
    /// Counts a death at `now_ns`: how many there were within a minute, and how long to wait.
    pub fn died(&mut self, now_ns: u64) -> (usize, Duration) {
        while self.recent_ns.front().is_some_and(|at| now_ns.saturating_sub(*at) > PACE_WINDOW_NS) {
            self.recent_ns.pop_front();
        }
        self.recent_ns.push_back(now_ns);
        let deaths = self.recent_ns.len();
        let doublings = u32::try_from(deaths - 1).unwrap_or(u32::MAX).min(16);
        let wait = PACE_WAIT_MIN.saturating_mul(1 << doublings).min(PACE_WAIT_MAX);
        (deaths, wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wait doubles, is bounded, and shrinks again after a quiet minute.
    #[test]
    fn restarts_are_paced() {
        let mut pace = RestartPace::default();
        let waits: Vec<u128> = (0..9).map(|n| pace.died(n).1.as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pace.died(PACE_WINDOW_NS + 100), (1, PACE_WAIT_MIN));
    }
}
