//! Elements into a Kafka topic, one a record, acknowledged by all replicas in sync. Records have the row's key, so
//! that one key's stand in one partition, in order. With `upsert` a row that is gone is a tombstone, and a compacted
//! topic equals the view: after a reset the keys that the topic has and the view has no more get tombstones as well.

mod batches;
mod login;
mod murmur;
mod stale;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rskafka::BackoffConfig;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use tokio::runtime::Runtime;

use crate::element::{Element, Op};
use crate::sink::{SinkError, Writer};
use crate::tls::Tls;
use crate::{one_thread, secrets};

use self::batches::{Keyed, key_prefix, record};
pub use self::login::{Login, Mechanism};
use self::stale::{ReadError, Stale};

/// What one batch of records may take at first: brokers allow 1 MB unless they are told otherwise.
const BATCH_BYTES_MAX: usize = 512 << 10;

#[derive(Clone)]
pub struct KafkaConfig {
    pub brokers: Vec<String>,
    pub topic: String,
    /// The topic is kept equal to the view; otherwise it is a log of elements.
    pub is_upsert: bool,
    /// By SASL, if so.
    pub login: Option<Login>,
    pub timeout: Duration,
    /// What stands in no message.
    pub secrets: Vec<String>,
    /// With TLS, if so.
    pub tls: Option<Tls>,
}

fn is_too_large(error: &Error) -> bool {
    use ProtocolError::{MessageTooLarge, RecordListTooLarge};
    let Error::ServerError { protocol_error, .. } = error else { return false };
    matches!(protocol_error, MessageTooLarge | RecordListTooLarge)
}

/// How many of the first records are a batch of so many bytes, and what they take; at least one.
fn fitting(records: &[Record], bytes_max: usize) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    for record in records {
        let size = record.approximate_size();
        if count > 0 && bytes + size > bytes_max {
            break;
        }
        count += 1;
        bytes += size;
    }
    (count, bytes)
}

struct Connected {
    _client: Client,
    partitions: Vec<PartitionClient>,
}

pub struct KafkaSink {
    config: KafkaConfig,
    runtime: Option<Runtime>,
    connected: Option<Connected>,
    /// By input: keys that the topic has, and that were not said again since the reset.
    stale: BTreeMap<u16, Stale>,
    /// What a batch of records may take, as far as the broker has said.
    batch_bytes: usize,
}

impl KafkaSink {
    #[must_use]
    pub fn new(config: KafkaConfig) -> KafkaSink {
        let (stale, batch_bytes) = (BTreeMap::new(), BATCH_BYTES_MAX);
        KafkaSink { config, runtime: None, connected: None, stale, batch_bytes }
    }

    fn failed(&self, what: &str, error: &Error) -> SinkError {
        let text = match login::refusal(error, self.config.login.as_ref()) {
            Some(why) => format!("{what}: {why}"),
            None => format!("{what}: {}", weir_types::text::with_causes(error)),
        };
        let text = secrets::line(&text, &self.config.secrets);
        match error {
            error if is_too_large(error) => SinkError::Unfit(text),
            // Of a compacted topic that is to take records without a key, among others.
            Error::ServerError {
                protocol_error: ProtocolError::Unknown(INVALID_RECORD), ..
            } => SinkError::Unfit(text),
            _ => SinkError::Retry(text),
        }
    }

    async fn connect(&self) -> Result<Connected, SinkError> {
        let KafkaConfig { brokers, topic, login, timeout, .. } = &self.config;
        // Attempts are ours to repeat; why the last one failed is known before the time is over.
        let backoff = BackoffConfig { deadline: Some(*timeout / 2), ..BackoffConfig::default() };
        let mut builder =
            ClientBuilder::new(brokers.clone()).client_id("weir").backoff_config(backoff);
        if let Some(login) = login {
            builder = builder.sasl_config(login.sasl());
        }
        if let Some(tls) = &self.config.tls {
            let config = tls.client_config(&[]).map_err(SinkError::Refused)?;
            builder = builder.tls_config(Arc::new(config));
        }
        let failed = |error: Error| self.failed("could not connect", &error);
        let client = builder.build().await.map_err(failed)?;
        let topics = client.list_topics().await.map_err(failed)?;
        let found = topics.into_iter().find(|have| have.name == *topic);
        let Some(found) = found.filter(|found| !found.partitions.is_empty()) else {
            return Err(SinkError::Retry(format!("there is no topic `{topic}`: make it")));
        };
        let mut partitions = Vec::new();
        for partition in found.partitions {
            let handling = UnknownTopicHandling::Error;
            let made = client.partition_client(topic.clone(), partition, handling).await;
            partitions.push(made.map_err(failed)?);
        }
        Ok(Connected { _client: client, partitions })
    }

    /// Finds out which keys the topic has of an element's output, before the view is told anew.
    async fn read_keys(
        &mut self,
        connected: &Connected,
        element: &Element,
    ) -> Result<(), SinkError> {
        let (input, partitions) = (element.output.input, &connected.partitions);
        let have = self.stale.get(&input);
        if have.is_none_or(|stale| !stale.is_of(element.seq, partitions.len())) {
            let prefix = key_prefix(&element.output).into_bytes();
            self.stale.insert(input, Stale::since(element.seq, prefix));
        }
        let Some(stale) = self.stale.get_mut(&input) else { return Ok(()) };
        stale.read(partitions).await.map_err(|error| match error {
            ReadError::Kafka(error) => self.failed("could not read the topic", &error),
            ReadError::TooManyKeys(text) => SinkError::Refused(text),
        })
    }

    /// What an attempt is said to be at that ended by time.
    fn late(&self) -> SinkError {
        let records: u64 = self.stale.values().map(|stale| stale.records).sum();
        SinkError::Retry(match records {
            0 => "no answer in time".to_string(),
            _ => format!(
                "no answer in time; {records} records of the topic were read for its keys, which goes on"
            ),
        })
    }

    /// Some elements as records.
    async fn records(
        &mut self,
        connected: &Connected,
        part: &[&Element],
    ) -> Result<Vec<(usize, Record)>, SinkError> {
        let mut records = Vec::new();
        let count = connected.partitions.len();
        for element in part {
            let input = element.output.input;
            if self.config.is_upsert {
                match element.op {
                    Op::Reset => self.read_keys(connected, element).await?,
                    Op::Progress => {
                        let stale = self.stale.get(&input).into_iter().flat_map(Stale::keys);
                        let gone = stale.map(|key| Keyed::tombstone(key, element));
                        records.extend(gone.map(|gone| gone.into_record(count)));
                    }
                    _ => {}
                }
            }
            let Some(made) = record(element, self.config.is_upsert) else { continue };
            if let (Some(stale), Some(key)) = (self.stale.get_mut(&input), &made.key) {
                stale.said(key);
            }
            records.push(made.into_record(count));
        }
        Ok(records)
    }

    /// Sends some records to each partition, and waits until all are acknowledged.
    async fn produce(
        &mut self,
        connected: &Connected,
        records: Vec<(usize, Record)>,
    ) -> Result<(), SinkError> {
        let mut of: BTreeMap<usize, Vec<Record>> = BTreeMap::new();
        for (partition, record) in records {
            of.entry(partition).or_default().push(record);
        }
        for (partition, records) in of {
            self.produce_to(&connected.partitions[partition], &records).await?;
        }
        Ok(())
    }

    /// In batches that the broker takes: one that is too large only together is sent in smaller ones. Only a record
    /// that is too large alone is nobody else's fault.
    async fn produce_to(
        &mut self,
        partition: &PartitionClient,
        mut records: &[Record],
    ) -> Result<(), SinkError> {
        while !records.is_empty() {
            let (count, bytes) = fitting(records, self.batch_bytes);
            let batch = records[..count].to_vec();
            match partition.produce(batch, Compression::NoCompression).await {
                Ok(_) => records = &records[count..],
                Err(error) if count > 1 && is_too_large(&error) => self.batch_bytes = bytes / 2,
                Err(error) => return Err(self.failed("not acknowledged", &error)),
            }
        }
        Ok(())
    }

    async fn write_all(
        &mut self,
        connected: &Connected,
        batch: &[&Element],
        safe: &mut usize,
    ) -> Result<(), SinkError> {
        let records = self.records(connected, batch).await?;
        self.produce(connected, records).await?;
        for element in batch.iter().filter(|element| element.op == Op::Progress) {
            self.stale.remove(&element.output.input);
        }
        *safe = batch.len();
        Ok(())
    }
}

/// Kafka's number of an error that the client has no name for.
const INVALID_RECORD: i16 = 87;

impl KafkaSink {
    fn runtime(&mut self) -> Result<Runtime, SinkError> {
        one_thread::take(&mut self.runtime)
            .map_err(|error| SinkError::Retry(format!("no runtime: {error}")))
    }
}

impl Writer for KafkaSink {
    /// The topic is there, and its leaders answer.
    fn check(&mut self) -> Result<(), SinkError> {
        let runtime = self.runtime()?;
        let timeout = self.config.timeout;
        let done = runtime.block_on(async {
            let late = |_| SinkError::Retry("no answer in time".to_string());
            tokio::time::timeout(timeout, self.connect()).await.map_err(late)?
        });
        self.runtime = Some(runtime);
        // One that is at work stays: others may have been told of it.
        let connected = done?;
        self.connected.get_or_insert(connected);
        Ok(())
    }

    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        let runtime = self.runtime()?;
        let connected = self.connected.take();
        let timeout = self.config.timeout;
        let done = runtime.block_on(async {
            let work = async {
                let connected = match connected {
                    Some(connected) => connected,
                    None => self.connect().await?,
                };
                let done = self.write_all(&connected, batch, safe).await;
                Ok((connected, done))
            };
            // The client has times of its own for each request; this is for all of them.
            tokio::time::timeout(timeout.saturating_mul(ATTEMPT_TIMEOUTS), work).await
        });
        let done = done.unwrap_or_else(|_| Err(self.late()));
        self.runtime = Some(runtime);
        let (connected, done) = done?;
        // What was sent and not acknowledged is not to go out behind our back.
        if matches!(done, Ok(()) | Err(SinkError::Unfit(_))) {
            self.connected = Some(connected);
        }
        done
    }

    fn close(&mut self) {
        self.connected = None;
        self.runtime = None;
    }
}

/// An attempt at a batch may be several requests.
const ATTEMPT_TIMEOUTS: u32 = 4;
