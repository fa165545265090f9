//! Streams through async-openai; jobs as in ../batch.mjs.
//!
//! Its types read no error in a stream of chat completions: what it raises is that it cannot read the event,
//! with the event in the message. isAPIError is true of that, too, where the event is an error of the API.

use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::traits::RequestOptionsBuilder;
use async_openai::types::chat::{CreateChatCompletionRequest, FinishReason};
use async_openai::types::responses::{CreateResponse, ResponseStreamEvent, Status};
use async_openai::Client;
use futures::stream::{self, StreamExt};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};
use std::collections::HashMap;

const AT_ONCE: usize = 40;

#[derive(Deserialize)]
struct Job {
    name: String,
    op: String,
    model: String,
    headers: HashMap<String, String>,
}

#[derive(Serialize, Default)]
struct Told {
    name: String,
    kind: String,
    text: String,
    finish: Option<String>,
    error: Option<Value>,
}

/// What the application meets: the SDK's own error, or an event that tells of one and is none to it.
enum Problem {
    Sdk(OpenAIError),
    Event(Value),
}

impl From<OpenAIError> for Problem {
    fn from(error: OpenAIError) -> Self {
        Problem::Sdk(error)
    }
}

type Api = Client<OpenAIConfig>;

fn headers(job: &Job) -> HeaderMap {
    job.headers
        .iter()
        .map(|(name, value)| {
            let name: HeaderName = name.parse().expect("a header's name");
            (
                name,
                HeaderValue::from_str(value).expect("a header's value"),
            )
        })
        .collect()
}

fn word<T: Serialize>(value: T) -> Option<String> {
    serde_json::to_value(value)
        .ok()?
        .as_str()
        .map(str::to_owned)
}

async fn chat(api: &Api, job: &Job, told: &mut Told) -> Result<(), Problem> {
    let asked: CreateChatCompletionRequest = serde_json::from_value(json!({
        "model": job.model, "messages": [{"role": "user", "content": "hi"}],
        "stream_options": {"include_usage": true}}))
    .expect("a request");
    let mut chunks = api
        .chat()
        .headers(headers(job))
        .create_stream(asked)
        .await?;
    while let Some(chunk) = chunks.next().await {
        for choice in chunk?.choices {
            told.text += choice.delta.content.as_deref().unwrap_or("");
            let finish: Option<FinishReason> = choice.finish_reason;
            told.finish = finish.and_then(word).or(told.finish.take());
        }
    }
    Ok(())
}

async fn responses(api: &Api, job: &Job, told: &mut Told) -> Result<(), Problem> {
    let asked: CreateResponse =
        serde_json::from_value(json!({"model": job.model, "input": "hi"})).expect("a request");
    let mut events = api
        .responses()
        .headers(headers(job))
        .create_stream(asked)
        .await?;
    while let Some(event) = events.next().await {
        let mut end = |status: Status| told.finish = word(status);
        match event? {
            ResponseStreamEvent::ResponseOutputTextDelta(delta) => told.text += &delta.delta,
            ResponseStreamEvent::ResponseCompleted(e) => end(e.response.status),
            ResponseStreamEvent::ResponseIncomplete(e) => end(e.response.status),
            ResponseStreamEvent::ResponseFailed(e) => end(e.response.status),
            ResponseStreamEvent::ResponseError(e) => {
                return Err(Problem::Event(
                    json!({"name": "ResponseError", "isAPIError": true,
                    "code": e.code, "message": e.message}),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The error within what could not be read.
fn event_facts(content: &str, message: String) -> Value {
    let event: Value = serde_json::from_str(content).unwrap_or(Value::Null);
    let error = event.get("error").filter(|e| !e.is_null());
    let code = error.and_then(|e| e.get("code")).or(event.get("code"));
    let tells = error.is_some() || event["type"] == "error";
    json!({"name": "JSONDeserialize", "isAPIError": tells, "code": code, "message": message})
}

fn describe(problem: Problem) -> Value {
    let error = match problem {
        Problem::Event(told) => return told,
        Problem::Sdk(error) => error,
    };
    let message = error.to_string();
    match error {
        // Of a status from 500 on the message is the whole body.
        OpenAIError::ApiError(e) => {
            let body: Value = serde_json::from_str(&e.api_error.message).unwrap_or(Value::Null);
            let code = e
                .api_error
                .code
                .map(Value::String)
                .or(body["error"].get("code").cloned());
            json!({"name": "ApiError", "isAPIError": true, "code": code, "message": message,
                "status": e.status_code.as_u16()})
        }
        OpenAIError::JSONDeserialize(_, content) => event_facts(&content, message),
        _ => json!({"name": "OpenAIError", "isAPIError": false, "code": null, "message": message}),
    }
}

async fn one(api: &Api, job: Job) -> Told {
    let mut told = Told {
        name: job.name.clone(),
        kind: "whole".into(),
        ..Told::default()
    };
    let done = match job.op.as_str() {
        "chat" => chat(api, &job, &mut told).await,
        _ => responses(api, &job, &mut told).await,
    };
    if let Err(problem) = done {
        told.kind = "error".into();
        told.error = Some(describe(problem));
    }
    told
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let jobs: Vec<Job> = serde_json::from_reader(std::io::stdin()).expect("jobs on stdin");
    let where_to = std::env::var("OPENAI_BASE_URL").expect("OPENAI_BASE_URL");
    let api = Client::with_config(OpenAIConfig::new().with_api_base(where_to));
    let mut all = stream::iter(jobs)
        .map(|job| one(&api, job))
        .buffer_unordered(AT_ONCE);
    while let Some(told) = all.next().await {
        println!("{}", serde_json::to_string(&told).expect("JSON"));
    }
}
