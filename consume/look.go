package consume

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// ErrUnknownCall reports that the stream has no event of a call.
var ErrUnknownCall = errors.New("consume: the stream has no event of this call")

// Look returns what the stream ACS knows of a call, by its callConnectionId or any other
// of its ids: legs, participants, when it was connected and ended, and why. It needs the
// rights to STREAM.INFO and DIRECT.GET of the stream, and neither a bucket nor a consumer;
// without STREAM.INFO it works too, and waits some seconds for an answer. It takes some
// milliseconds for a callConnectionId, and longer for other ids, for which the stream is
// read; it is meant for looking at one call, not for each event. Of another stream,
// [replay.Reader.Story] and [replay.Story.Facts] tell the same.
func Look(ctx context.Context, nc *nats.Conn, id string) (*replay.Facts, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	reader := &replay.Reader{
		JetStream: func(context.Context) (jetstream.JetStream, error) { return js, nil },
		Stream:    schemas.Stream, Prefix: schemas.SubjectPrefix,
	}
	now := time.Now()
	story, err := reader.Story(ctx, id, now)
	if err != nil {
		return nil, err
	}
	if len(story.Steps) == 0 {
		return nil, ErrUnknownCall
	}
	return story.Facts(now), nil
}
