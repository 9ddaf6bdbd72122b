//! The rooms' Durable Objects, as the worker calls them.

use delegated_leaves::{RoomAnswer, RoomCommand, RoomName};
use wasm_bindgen::JsValue;
use worker::{Env, Method, Request, RequestInit};

/// The objects, one for each LiveKit room.
#[derive(Clone, Copy)]
pub struct Rooms<'a>(pub &'a Env);

impl Rooms<'_> {
    /// Hands `command` to the object of `room`. An answer means that its effect is stored.
    pub async fn send(self, room: &RoomName, command: &RoomCommand) -> worker::Result<RoomAnswer> {
        let object = self.0.durable_object(BINDING)?.id_from_name(room.as_str())?.get_stub()?;
        let mut init = RequestInit::new();
        init.with_method(Method::Post).with_body(Some(JsValue::from(serde_json::to_string(command)?)));
        // An object has no host of its own, but a request needs one.
        let mut answer = object.fetch_with_request(Request::new_with_init("https://room/", &init)?).await?;
        match answer.status_code() {
            200 => Ok(serde_json::from_str(&answer.text().await?)?),
            status => Err(worker::Error::from(format!("the room's object answered {status}"))),
        }
    }
}

const BINDING: &str = "ROOMS";
