//! Client of the Durable Objects of the rooms.

use delegated_leaves::{RoomAnswer, RoomCommand, RoomName};
use wasm_bindgen::JsValue;
use worker::{Env, Method, Request, RequestInit};

use crate::config::Config;
use crate::config::location_hint::LocationHint;

/// The objects, one for each LiveKit room.
#[derive(Clone, Copy)]
pub struct RoomClient<'a> {
    env: &'a Env,
    location: Option<LocationHint>,
}

impl<'a> RoomClient<'a> {
    /// Returns the client for this deployment.
    pub fn of(env: &'a Env, config: &Config) -> Self {
        Self { env, location: config.location_hint }
    }

    /// Sends `command` to the object of `room`. A response means that its effect is stored.
    pub async fn send(self, room: &RoomName, command: &RoomCommand) -> worker::Result<RoomAnswer> {
        let namespace = self.env.durable_object(BINDING)?;
        let id = namespace.id_from_name(room.as_str())?;
        let object = match self.location {
            Some(location) => id.get_stub_with_location_hint(location.as_str())?,
            None => id.get_stub()?,
        };
        let mut init = RequestInit::new();
        init.with_method(Method::Post).with_body(Some(JsValue::from(serde_json::to_string(command)?)));
        // A request needs a host, although an object has none.
        let mut response = object.fetch_with_request(Request::new_with_init("https://room/", &init)?).await?;
        match response.status_code() {
            200 => Ok(serde_json::from_str(&response.text().await?)?),
            status => Err(worker::Error::from(format!("the room's object answered {status}"))),
        }
    }
}

const BINDING: &str = "ROOMS";
