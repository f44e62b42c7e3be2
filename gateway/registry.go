package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
)

// Registry keeps the catalogue of schemas in step with the schemas topic, which
// is the truth: every gateway follows it from the beginning.
type Registry struct {
	topics    kafka.Topics
	catalogue *avro.Catalogue
	reader    *kafka.Reader
	writer    *kafka.Exclusive
	// ensure makes the topics of new aggregates, in the layout that has one each.
	ensure func(ctx context.Context, aggregates []string) error
	// changed is told after each schema that is new here.
	changed func()
	log     *slog.Logger

	turn chan struct{} // one registration at a time in this process

	mu   sync.Mutex      // guards what follows
	odd  map[string]bool // aggregates with a record that this gateway cannot use
	end  int64           // offset after the last record of the topic that has been taken
	news chan struct{}   // closed when end moves
}

// NewRegistry returns a registry that knows nothing yet: [Registry.Run] reads it.
func NewRegistry(topics kafka.Topics, catalogue *avro.Catalogue, reader *kafka.Reader, writer *kafka.Exclusive, ensure func(context.Context, []string) error, changed func(), log *slog.Logger) *Registry {
	return &Registry{topics: topics, catalogue: catalogue, reader: reader, writer: writer, ensure: ensure, changed: changed, log: log, turn: make(chan struct{}, 1), odd: map[string]bool{}, news: make(chan struct{})}
}

// Run follows the topic until ctx ends. caughtUp is called once, when all that
// stood there at the beginning is in the catalogue.
func (r *Registry) Run(ctx context.Context, caughtUp func()) error {
	ready := false
	return r.reader.FollowPositions(ctx, r.topics.Schemas(), nil, func(record kafka.Record) {
		if r.take(record) && ready {
			r.changed()
		}
	}, func(_ int32, position int64) {
		r.moved(position)
	}, func() {
		ready = true
		caughtUp()
	})
}

func (r *Registry) moved(end int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end = end
	close(r.news)
	r.news = make(chan struct{})
}

// Beyond says whether something is registered for an aggregate type that this
// gateway cannot use, since a newer one wrote it.
func (r *Registry) Beyond(aggregate string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.odd[aggregate]
}

// CatchUp waits until everything that stands in the schemas topic now is in the
// catalogue. Whoever meets a schema that he does not know asks for this before
// he says so: another gateway may have registered it a moment ago.
func (r *Registry) CatchUp(ctx context.Context) error {
	_, _, high, err := r.reader.Watermarks(ctx, r.topics.Schemas(), 0)
	if err != nil {
		return fmt.Errorf("end of the schemas topic: %w", err)
	}
	for {
		r.mu.Lock()
		end, news := r.end, r.news
		r.mu.Unlock()
		if end >= high {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("schemas topic read up to offset %d of %d: %w", end, high, context.Cause(ctx))
		}
	}
}

// take adds one record of the topic and says whether it was a schema.
func (r *Registry) take(record kafka.Record) bool {
	key := string(record.Key)
	if key == kafka.InstallationKey || record.Value == nil {
		return false
	}
	if _, ok := kafka.ParseDispatcherKey(record.Key); ok {
		return false // of those who dispatch
	}
	registered, err := avro.DecodeRegistered(key, record.Value)
	if err == nil {
		err = r.catalogue.Add(registered)
	}
	if err != nil {
		name, _, _ := strings.Cut(key, ":")
		r.mu.Lock()
		r.odd[runtime.TypeName(name).Namespace()] = true
		r.mu.Unlock()
		r.log.Error("record of the schemas topic cannot be used; it is left out", "key", key, "offset", record.Offset, "err", err)
		return false
	}
	return true
}

// Register implements [SchemaRegistrar].
func (r *Registry) Register(ctx context.Context, text []byte, dryRun bool) ([]SchemaType, error) {
	return r.register(ctx, "schema", text, dryRun)
}

func (r *Registry) register(ctx context.Context, file string, text []byte, dryRun bool) ([]SchemaType, error) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	aggregate, err := avro.ParseAggregate(file, text)
	if err != nil {
		return nil, err
	}
	// Another gateway may have written since this one last read.
	if err := r.CatchUp(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKafkaAway, err)
	}
	added, err := r.catalogue.Check(aggregate)
	if err != nil {
		return nil, err
	}
	if dryRun || len(added) == 0 {
		return toSchemaTypes(added), nil
	}
	if err := r.ensure(ctx, append(r.catalogue.Aggregates(), aggregate.Name)); err != nil {
		return nil, err
	}
	if added, err = r.write(ctx, aggregate); err != nil {
		return nil, err
	}
	return toSchemaTypes(added), nil
}

// write registers what is new of an aggregate. What is compatible is decided
// with all that other gateways have registered, and none of them registers
// anything between that decision and its record: what two allowed at the same
// time, each without the other, might not go together.
func (r *Registry) write(ctx context.Context, aggregate *avro.Aggregate) ([]*avro.Type, error) {
	var added []*avro.Type
	var refused error
	err := r.writer.Do(ctx, func(ctx context.Context) (records []kafka.Record, err error) {
		if err := r.CatchUp(ctx); err != nil {
			return nil, err
		}
		types, err := r.catalogue.Check(aggregate)
		if err != nil {
			refused = err
			return nil, err
		}
		if len(types) > 0 {
			added = types // unless an earlier try has written them after all
		}
		for _, t := range types {
			registered := t.Register(time.Now())
			value, err := registered.Encode()
			if err != nil {
				return nil, err
			}
			records = append(records, kafka.Record{
				Topic: r.topics.Schemas(), Partition: 0, Key: []byte(registered.Key()), Value: value,
			})
		}
		return records, nil
	})
	switch {
	case refused != nil:
		return nil, refused
	case errors.Is(err, kafka.ErrNotWritten):
		return nil, fmt.Errorf("%w: %w", ErrKafkaAway, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	if err := r.CatchUp(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	for _, t := range added {
		if _, ok := r.catalogue.Version(t.DataSchema()); !ok {
			return nil, fmt.Errorf("%w: %s is not in the topic", ErrUncertain, t.Name)
		}
	}
	return added, nil
}

// RegisterDir registers every .avsc file of a folder. All files are tried; the
// errors of all come back together.
func (r *Registry) RegisterDir(ctx context.Context, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.avsc"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("schemas: %q has no .avsc file", dir)
	}
	slices.Sort(files)
	var errs []error
	for _, file := range files {
		text, err := os.ReadFile(file)
		var added []SchemaType
		if err == nil {
			added, err = r.register(ctx, file, text, false)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", file, err))
			continue
		}
		if len(added) > 0 {
			names := make([]string, len(added))
			for i, t := range added {
				names[i] = t.Name.Name()
			}
			r.log.Info("schemas registered", "file", file, "types", strings.Join(names, " "))
		}
	}
	return errors.Join(errs...)
}

// Commands implements the Types of the Trigger router.
func (r *Registry) Commands(aggregate string) []runtime.TypeName {
	view, ok := r.catalogue.Aggregate(aggregate)
	if !ok {
		return nil
	}
	names := make([]runtime.TypeName, len(view.Commands))
	for i, t := range view.Commands {
		names[i] = t.Name
	}
	return names
}
