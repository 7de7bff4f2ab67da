//! Conversations of clients with nodes, over the whole data path of the server.

mod anything;
mod bounds;
mod conversations;
mod leaders;
mod order;
mod world;
