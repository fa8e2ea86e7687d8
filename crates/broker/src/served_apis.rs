//! The macro that makes a table of handlers: one line for each API, with the handler in the file of its name.
//!
//! `logs`: the handler reads logs itself; `memory`: it does not. `ready`: it is a plain function; `waits`: it is async.
//! The APIs of `own` have a path of their own, which the module of the table adds.

macro_rules! serve_apis {
    (
        own [$($own:ident),*];
        $($api:ident => $place:ident $how:ident $module:ident::handle($request:ident),)*
    ) => {
        /// Every API that a listener of this role serves.
        pub const SERVED: &[ApiKey] = &[$(ApiKey::$own,)* $(ApiKey::$api),*];

        /// Whether the handler of `api` reads logs on the thread of its connection, so that it may wait for a disk.
        pub(super) fn looks_at_logs(api: ApiKey) -> bool {
            match api {
                $(ApiKey::$own => true,)*
                $(ApiKey::$api => serve_apis!(@$place),)*
                _ => false,
            }
        }

        /// Answers a request; the APIs with a path of their own are not among them.
        pub(super) async fn answer(
            broker: Arc<Broker>,
            context: RequestContext,
            body: Bytes,
        ) -> Result<Reply, Refused> {
            let mut body = body;
            match context.api {
                $(ApiKey::$api => {
                    let request = messages::$request::read(&mut body, context.version)
                        .map_err(Refused::Body)?;
                    let response = serve_apis!(@$how $module::handle(&broker, &context, request));
                    let is_not_controller = errors::count(&broker.metrics, context.api, &response);
                    let reply = encode(&context, context.version, |out, version| {
                        response.write(out, version)
                    })?;
                    Ok(Reply { is_not_controller, ..reply })
                })*
                _ => Err(Refused::NotServed),
            }
        }
    };
    (@ready $response:expr) => { $response };
    (@waits $response:expr) => { $response.await };
    (@memory) => { false };
    (@logs) => { true };
}
