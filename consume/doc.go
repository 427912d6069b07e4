// Package consume runs the handlers of a service over any number of replicas: one event
// of a call at a time, in the order of the stream, with the service's state, retries,
// dead letters, and waits that survive a restart.
//
//	err := consume.Run(ctx, nc, consume.Service[Menu]{
//		Name:  "ivr",
//		Types: []string{"CallConnected", "RecognizeCompleted", "RecognizeFailed"},
//		Handle: func(ctx context.Context, call *consume.Call[Menu], m *schemas.Message) error {
//			switch d := m.Event.Data.(type) {
//			case *schemas.CallConnected:
//				call.Expect(20*time.Second, "RecognizeCompleted", "RecognizeFailed")
//				return acs.StartRecognizing(ctx, d.CallConnectionID, call.EffectID("menu"))
//			case *consume.Timeout:
//				return acs.HangUp(ctx, call.ID, call.EffectID("hang-up"))
//			}
//			return nil
//		},
//	})
//
// One call is one callConnectionId. The sixteen slots of the stream, a digit in its
// subjects, are divided among the replicas; the owner of a slot has a lease on it.
//
//	the handler returns nil             state and position are one write
//	it returns an error                 the call waits and is tried again, others go on
//	it fails too often, or Permanent    dead letter; then the call goes on
//	the process is killed in it         it runs again elsewhere, after the lease at most
//	the process stands still in it      the same; what it saves later is refused
//	NATS is disconnected                handlers end with the lease; all goes on after it
//	an event comes again                it is dropped
//	an awaited event does not come      a *Timeout comes
//	the stream removes unread events    they are counted and logged
//
// A handler can run more than once for an event: when it fails, and when its process
// dies, or loses its lease, before the result is stored. [Call.EffectID] makes one effect
// of it, with receivers that know such an id, as ACS does.
//
// In NATS a service needs: STREAM.INFO of the events' stream, its bucket and its
// dead-letter stream; STREAM.MSG.GET of the first two and DIRECT.GET of the bucket;
// CONSUMER.INFO, CONSUMER.MSG.NEXT, CONSUMER.RESET and $JS.ACK of its sixteen consumers;
// to publish to $KV.acs_<service>.> and acs-dead.<service>.>; and an inbox. Where it may
// make nothing, an operator makes what [Service.Needs] returns; acsbridge rights prints it
// as commands, and the rights as a configuration of the server.
//
// The loop of a slot (slot.go) alone has its lease, its consumer (feed.go) and its calls
// (calls.go), which know neither NATS nor a clock. The decision is in
// docs/decisions/0026-give-each-call-one-handler-at-a-time.md.
package consume
