package consume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/schemas"
)

// ackWait is that of the consumers. A delivery by the server's own decision would bring
// new events of a call before its old ones, so it never happens: an owner resets the
// consumer.
const ackWait = 30 * 24 * time.Hour

// prepareTimeout bounds the start. A cluster makes the sixteen consumers in some seconds.
const prepareTimeout = time.Minute

// prepare checks the server, and makes what the service needs and does not find.
func (r *replica) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	if err := checkVersion(r.nc.ConnectedServerVersion()); err != nil {
		return err
	}
	stream, err := r.js.Stream(ctx, r.opts.Stream)
	if err != nil {
		return fmt.Errorf("stream %s: %w; start acsbridge serve first, or name the stream in Stream and its JetStream domain in Domain", r.opts.Stream, err)
	}
	needs := r.opts.needs(stream.CachedInfo().Config.Replicas)
	if err := r.ensureBucket(ctx, needs.Bucket); err != nil {
		return fmt.Errorf("bucket %s: %w; %s", Bucket(r.opts.Name), err, r.remedy())
	}
	if err := r.checkStream(ctx, stream.CachedInfo()); err != nil {
		return fmt.Errorf("bucket %s: %w", Bucket(r.opts.Name), err)
	}
	if err := r.ensureDeadStream(ctx, needs.DeadLetters); err != nil {
		return fmt.Errorf("stream %s: %w; %s", DeadStream(r.opts.Name), err, r.remedy())
	}
	if err := r.beat(ctx); err != nil { // before a consumer has new types: see outranked
		return fmt.Errorf("bucket %s: %w; %s", Bucket(r.opts.Name), err, r.remedy())
	}
	for _, want := range needs.Consumers {
		if err := r.ensureConsumer(ctx, stream, want); err != nil {
			r.signOff()
			return fmt.Errorf("consumer %s of stream %s: %w; %s", want.Durable, r.opts.Stream, err, r.remedy())
		}
	}
	return nil
}

func (r *replica) remedy() string {
	return "acsbridge rights " + r.opts.Name + " prints what an operator makes for the service, and its rights"
}

// leastMinor is the minor version of nats-server that can reset a consumer.
const leastMinor = 14

func checkVersion(version string) error {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, errMajor := strconv.Atoi(major)
	b, errMinor := strconv.Atoi(minor)
	switch {
	case version == "":
		return errors.New("not connected to NATS")
	case errMajor == nil && errMinor == nil && a < 2 || a == 2 && b < leastMinor:
		return fmt.Errorf("the server is nats-server %s, and 2.%d or newer is needed, which can reset a consumer: upgrade it", version, leastMinor)
	}
	return nil
}

// markerTTL is how long the bucket keeps a mark of what has expired. It also turns on
// the lifetimes of keys.
const markerTTL = time.Minute

// Needs are what a service needs in NATS. [Run] makes what is missing, where it has the
// right to.
type Needs struct {
	Bucket      jetstream.KeyValueConfig
	DeadLetters jetstream.StreamConfig
	Consumers   []jetstream.ConsumerConfig // of the stream with the events, one for each slot
	// Publish are the subjects of what a service sends that makes nothing of this itself:
	// its requests, writes and acknowledgements, for a JetStream without a domain. It
	// subscribes to its inbox alone.
	Publish []string
}

// Needs returns what the service needs in NATS, with so many replicas of bucket and
// stream, so that an operator can make it. It depends on Name, Prefix, Types and StartAt.
func (s *Service[S]) Needs(replicas int) (*Needs, error) {
	o, err := s.options()
	if err != nil {
		return nil, err
	}
	return o.needs(replicas), nil
}

func (o *options) needs(replicas int) *Needs {
	n := &Needs{
		Bucket: jetstream.KeyValueConfig{
			Bucket: Bucket(o.Name), Description: "State of the calls of service " + o.Name,
			History: 1, Replicas: max(replicas, 1), LimitMarkerTTL: markerTTL,
		},
		DeadLetters: jetstream.StreamConfig{
			Name: DeadStream(o.Name), Description: "Events that service " + o.Name + " has given up",
			Subjects: []string{schemas.DeadPrefix + "." + o.Name + ".>"}, MaxAge: deadAge, Replicas: max(replicas, 1),
			AllowDirect: true, Duplicates: 10 * time.Minute,
		},
	}
	bucket := "KV_" + n.Bucket.Bucket
	for _, stream := range []string{o.Stream, bucket, n.DeadLetters.Name} {
		n.Publish = append(n.Publish, "$JS.API.STREAM.INFO."+stream)
	}
	n.Publish = append(n.Publish, "$JS.API.STREAM.MSG.GET."+o.Stream, "$JS.API.STREAM.MSG.GET."+bucket, "$JS.API.DIRECT.GET."+bucket,
		"$KV."+n.Bucket.Bucket+".>", n.DeadLetters.Subjects[0])
	for _, slot := range strings.Split(slots, "") {
		c := o.consumer(slot)
		n.Consumers = append(n.Consumers, c)
		for _, request := range []string{"INFO", "MSG.NEXT", "RESET"} {
			n.Publish = append(n.Publish, "$JS.API.CONSUMER."+request+"."+o.Stream+"."+c.Durable)
		}
		n.Publish = append(n.Publish, "$JS.ACK."+o.Stream+"."+c.Durable+".>")
	}
	return n
}

// ensureBucket makes the bucket, or checks the one that is there.
func (r *replica) ensureBucket(ctx context.Context, config jetstream.KeyValueConfig) error {
	stream, err := r.js.Stream(ctx, r.bucket.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = r.js.CreateKeyValue(ctx, config)
		if errors.Is(err, jetstream.ErrBucketExists) { // another replica was faster
			err = nil
		}
		return err
	}
	if err != nil {
		return err
	}
	switch c := stream.CachedInfo().Config; {
	case !c.AllowMsgTTL:
		return errors.New("it has no lifetimes for keys: make it anew with nats kv add --marker-ttl 1m")
	case c.MaxAge > 0:
		return errors.New("its keys expire by themselves: make it anew without --ttl")
	case !c.AllowDirect:
		return errors.New("it has no direct get: turn that on")
	default:
		r.maxEntry = int64(c.MaxMsgSize)
	}
	return nil
}

// streamKey has the stream whose sequences are in the bucket.
const streamKey = "stream"

// checkStream returns an error when the bucket belongs to another stream, or to one of
// this name that was deleted: by its positions the events of this one would be finished.
func (r *replica) checkStream(ctx context.Context, info *jetstream.StreamInfo) error {
	type identity struct {
		Name    string    `json:"name"`
		Created time.Time `json:"created"`
	}
	value, revision, err := r.bucket.get(ctx, streamKey)
	if err != nil {
		return err
	}
	if value == nil {
		value, err = json.Marshal(identity{info.Config.Name, info.Created})
		if err == nil {
			_, err = r.bucket.put(ctx, r.bucket.message(streamKey, value, revision, 0))
		}
		if natsconn.Code(err) == jetstream.JSErrCodeStreamWrongLastSequence { // another replica was faster
			return r.checkStream(ctx, info)
		}
		return err
	}
	var was identity
	if err := json.Unmarshal(value, &was); err != nil {
		return fmt.Errorf("key %s: %w", streamKey, err)
	}
	if was.Name == info.Config.Name && was.Created.Equal(info.Created) {
		return nil
	}
	return fmt.Errorf("its positions are of stream %s, made %s, and stream %s was made %s: with them events would be skipped. Remove the bucket (nats kv del %s), and with it the state of all calls; "+
		"or, when the stream was restored with its sequences, the key %[6]s (nats kv del %[5]s %[6]s)",
		was.Name, was.Created.Format(time.RFC3339), info.Config.Name, info.Created.Format(time.RFC3339), Bucket(r.opts.Name), streamKey)
}

// deadAge is how long dead letters are kept.
const deadAge = 30 * 24 * time.Hour

// ensureDeadStream makes the dead-letter stream, or finds the one that is there.
func (r *replica) ensureDeadStream(ctx context.Context, config jetstream.StreamConfig) error {
	_, err := r.js.Stream(ctx, config.Name)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	_, err = r.js.CreateStream(ctx, config)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		err = nil
	}
	return err
}

// consumer returns the configuration of the consumer of a slot, a hex digit.
func (o *options) consumer(slot string) jetstream.ConsumerConfig {
	c := jetstream.ConsumerConfig{
		Durable: ConsumerName(o.Name, slot), Description: "Slot " + slot + " of service " + o.Name,
		DeliverPolicy: jetstream.DeliverNewPolicy, AckPolicy: jetstream.AckAllPolicy, AckWait: ackWait,
		MaxDeliver: -1, MaxAckPending: -1,
	}
	if !o.StartAt.IsZero() {
		at := o.StartAt
		c.DeliverPolicy, c.OptStartTime = jetstream.DeliverByStartTimePolicy, &at
	}
	if f := filters(o.Prefix, slot, o.types); len(f) == 1 {
		c.FilterSubject = f[0]
	} else {
		c.FilterSubjects = f
	}
	return c
}

// ensureConsumer makes the consumer of a slot, or checks the one that is there. A type
// that its filter lacks is added; none is removed, since another version of the service
// may want it.
func (r *replica) ensureConsumer(ctx context.Context, stream jetstream.Stream, want jetstream.ConsumerConfig) error {
	consumer, err := stream.Consumer(ctx, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		_, err = stream.CreateConsumer(ctx, want)
		if !errors.Is(err, jetstream.ErrConsumerExists) {
			return err
		}
		consumer, err = stream.Consumer(ctx, want.Durable)
	}
	if err != nil {
		return err
	}
	have := consumer.CachedInfo().Config
	if have.AckPolicy != jetstream.AckAllPolicy || have.AckWait < 24*time.Hour || have.MaxAckPending > 0 && have.MaxAckPending < 2*maxPrefetch || have.DeliverSubject != "" {
		return errors.New("it is not one that this package uses: delete it, or give the service another Name")
	}
	wide := widen(subjects(&have), subjects(&want))
	if slices.Equal(wide, subjects(&have)) {
		return nil
	}
	have.FilterSubject, have.FilterSubjects = "", wide
	if _, err = stream.UpdateConsumer(ctx, have); err != nil {
		return fmt.Errorf("give it the types of the service: %w", err)
	}
	return nil
}

// widen returns the filters of a slot that select what either list does.
func widen(have, want []string) []string {
	wide := slices.Compact(slices.Sorted(slices.Values(slices.Concat(have, want))))
	for _, f := range wide {
		tokens := strings.Split(f, ".")
		if n := len(tokens); n > 3 && tokens[n-3] == "*" { // all types; a second filter would overlap with it
			return []string{f}
		}
	}
	return wide
}

// subjects returns what a consumer filters.
func subjects(c *jetstream.ConsumerConfig) []string {
	if c.FilterSubject != "" {
		return []string{c.FilterSubject}
	}
	return slices.Sorted(slices.Values(c.FilterSubjects))
}
