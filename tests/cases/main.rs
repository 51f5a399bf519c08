//! Tests that need more than one crate, a real broker, or the binary.

mod amqp;
mod architecture;
mod certificates;
mod chaos;
mod cli;
mod cloud;
mod doctor;
mod etl;
mod examples;
mod guest_secrets;
mod guests;
mod input_files;
mod isolation;
mod limits;
mod local;
mod memo;
mod output;
mod outside;
mod replay;
mod roles;
mod secrets;
mod server;
mod simulation;
mod waiting;
mod worker;
