// Package fakenats is a NATS server with one JetStream node, for tests in a
// testing/synctest bubble. It lives on fake time, listens on nothing and keeps
// its streams in memory, and what goes wrong with it is the test's choice.
//
// It speaks as much of the protocol as the bridge needs: the client protocol
// with headers (https://docs.nats.io/reference/reference-protocols/nats-protocol),
// publishes with Nats-Msg-Id and Nats-Expected-Stream, and of the JetStream API
// STREAM.INFO, CREATE and UPDATE and DIRECT.GET, by sequence, subject and time,
// single and in batches (ADR-31). A test holds its answers against those of a
// real nats-server. A request that it does not know is noted in [Server.Unknown].
//
// A message on its way, and what a [Fate] and the server's methods can do to it:
//
//	client ──▶ connection ──▶ wait ──▶ stream ──▶ delay ──▶ connection ──▶ client
//	           Break          Lost     Refusal    Silent    Break
//	           Sever          Stall    Behind     Break     Sever
//
// Whatever connects must be answered in the same instant: nats.go holds its
// mutex during the handshake, a goroutine that waits for a mutex is not durably
// blocked, and fake time would stand still for good. So a stopped server
// refuses connections, and never keeps them waiting.
package fakenats
