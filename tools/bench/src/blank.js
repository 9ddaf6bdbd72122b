// A worker that does nothing: what a start takes without a module of ours.
export default { fetch: () => new Response() };
