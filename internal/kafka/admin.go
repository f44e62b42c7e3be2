package kafka

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// ErrTopics is returned, wrapped with every problem found, when the topics are
// not as Evento's promises need them.
var ErrTopics = errors.New("kafka topics")

// DefaultPartitions is the number of partitions of a new installation that asks for none.
const DefaultPartitions = 16

// Admin makes and checks topics. It is safe for concurrent use.
type Admin struct {
	settings Settings
	log      *slog.Logger
	reader   *Reader // its admin client is ours too
}

// NewAdmin makes an Admin. It does not wait for Kafka to be reached.
func NewAdmin(settings Settings, log *slog.Logger) (*Admin, error) {
	reader, err := NewReader(ReaderConfig{Settings: settings, Log: log, Consumers: 1})
	if err != nil {
		return nil, err
	}
	return &Admin{settings: settings, log: log, reader: reader}, nil
}

// Close ends its clients. Calls must have ended.
func (a *Admin) Close() { a.reader.Close() }

// TopicID is Kafka's own id of a topic: a topic that is deleted and made again
// has another (KIP-516).
type TopicID [16]byte

// String writes the id as Kafka's tools do.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// ClusterID returns Kafka's id of the cluster.
func (a *Admin) ClusterID(ctx context.Context) (string, error) {
	result, err := a.reader.admin.DescribeCluster(ctx, ck.SetAdminRequestTimeout(adminTimeout))
	if err != nil {
		return "", fmt.Errorf("describe the cluster: %w", err)
	}
	if result.ClusterID == nil {
		return "", errors.New("describe the cluster: it has no id")
	}
	return *result.ClusterID, nil
}

// TopicID returns the id of a topic. A topic that does not exist is an error.
func (a *Admin) TopicID(ctx context.Context, topic string) (TopicID, error) {
	has, err := a.describe(ctx, []string{topic})
	if err != nil {
		return TopicID{}, err
	}
	d, ok := has[topic]
	if !ok {
		return TopicID{}, fmt.Errorf("topic %q does not exist", topic)
	}
	return d.id, nil
}

// described is what a topic is.
type described struct {
	id         TopicID
	partitions int32
	replicas   int // of the partition that has the fewest
}

// describe returns those of the topics that exist.
func (a *Admin) describe(ctx context.Context, topics []string) (map[string]described, error) {
	result, err := a.reader.admin.DescribeTopics(ctx, ck.NewTopicCollectionOfTopicNames(topics), ck.SetAdminRequestTimeout(adminTimeout))
	if err != nil {
		return nil, fmt.Errorf("describe topics: %w", err)
	}
	has := map[string]described{}
	for _, d := range result.TopicDescriptions {
		switch d.Error.Code() {
		case ck.ErrNoError:
		case ck.ErrUnknownTopicOrPart, ck.ErrUnknownTopic:
			continue
		default:
			return nil, fmt.Errorf("describe topic %q: %w", d.Name, d.Error)
		}
		one := described{partitions: int32(len(d.Partitions)), replicas: 1 << 10}
		binary.BigEndian.PutUint64(one.id[:8], uint64(d.TopicID.GetMostSignificantBits()))
		binary.BigEndian.PutUint64(one.id[8:], uint64(d.TopicID.GetLeastSignificantBits()))
		for _, p := range d.Partitions {
			one.replicas = min(one.replicas, len(p.Replicas))
		}
		has[d.Name] = one
	}
	return has, nil
}

// configs returns the settings of topics that exist, by topic. Any broker may be
// asked, and one that has not heard yet of a topic that another process has just
// made is asked again until it has, or until the context ends.
func (a *Admin) configs(ctx context.Context, topics []string) (map[string]map[string]string, error) {
	for {
		all, err := a.configsNow(ctx, topics)
		if !unknownTopic(err) {
			return all, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}

func unknownTopic(err error) bool {
	var e ck.Error
	return errors.As(err, &e) && (e.Code() == ck.ErrUnknownTopicOrPart || e.Code() == ck.ErrUnknownTopic)
}

func (a *Admin) configsNow(ctx context.Context, topics []string) (map[string]map[string]string, error) {
	all := map[string]map[string]string{}
	resources := make([]ck.ConfigResource, 0, len(topics))
	for _, t := range topics {
		resources = append(resources, ck.ConfigResource{Type: ck.ResourceTopic, Name: t})
	}
	results, err := a.reader.admin.DescribeConfigs(ctx, resources, ck.SetAdminRequestTimeout(adminTimeout))
	if err != nil {
		return nil, fmt.Errorf("describe the settings of topics: %w", err)
	}
	for _, r := range results {
		if r.Error.Code() != ck.ErrNoError {
			return nil, fmt.Errorf("describe the settings of topic %q: %w", r.Name, r.Error)
		}
		all[r.Name] = map[string]string{}
		for name, entry := range r.Config {
			all[r.Name][name] = entry.Value
		}
	}
	return all, nil
}

// offsetMetadataSetting bounds what a broker takes beside a committed offset.
const offsetMetadataSetting = "offset.metadata.max.bytes"

// CheckOffsetMetadata asks each broker whether it takes so many bytes of metadata
// beside a committed offset. The error names those that do not, and wraps
// [ErrTopics]. Where a broker's settings cannot be read (it takes the right
// DescribeConfigs on the cluster), nothing is said: a refused commit names the setting.
func (a *Admin) CheckOffsetMetadata(ctx context.Context, least int) error {
	cluster, err := a.reader.admin.DescribeCluster(ctx, ck.SetAdminRequestTimeout(adminTimeout))
	if err != nil {
		return fmt.Errorf("describe the cluster: %w", err)
	}
	var problems []error
	for _, node := range cluster.Nodes {
		id := strconv.Itoa(node.ID)
		// A broker tells its own settings alone, so each is asked by itself.
		results, err := a.reader.admin.DescribeConfigs(ctx, []ck.ConfigResource{{Type: ck.ResourceBroker, Name: id}}, ck.SetAdminRequestTimeout(adminTimeout))
		if err == nil && len(results) == 1 && results[0].Error.Code() != ck.ErrNoError {
			err = results[0].Error
		}
		if err != nil {
			a.log.Debug("the settings of a broker cannot be read", "broker", id, "err", err)
			continue
		}
		for _, r := range results {
			if most, err := strconv.Atoi(r.Config[offsetMetadataSetting].Value); err == nil && most < least {
				problems = append(problems, fmt.Errorf("broker %s: %s is %d, and must be at least %d: positions could not be committed", id, offsetMetadataSetting, most, least))
			}
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("%w: %w", ErrTopics, errors.Join(problems...))
	}
	return nil
}

// Ensure says which topics there must be. The zero value of a number leaves the
// matter to what is recorded, or to the broker.
type Ensure struct {
	Topics     Topics
	Aggregates []string // types that have a topic of their own, in the layout [PerAggregate]

	// Name of the installation, part of the platform's sources. Another one than
	// recorded is an error. "" takes any.
	Name string

	// Partitions of all topics but the schemas. 0 takes what the installation
	// recorded, else [DefaultPartitions]. Another number than recorded is an
	// error: keys would move to other partitions.
	Partitions int32

	Replication     int // replicas of new topics, and the least of existing ones
	MinInSync       int // min.insync.replicas of new topics, and the least of existing ones
	MaxMessageBytes int // max.message.bytes of new topics, and the least of existing ones
}

// check says what is wrong with it.
func (e Ensure) check() error {
	switch {
	case e.Partitions < 0 || e.Partitions > 10_000:
		return fmt.Errorf("partitions %d is not between 1 and 10000", e.Partitions)
	case e.Replication < 0 || e.MinInSync < 0 || e.MaxMessageBytes < 0:
		return fmt.Errorf("replication %d, min.insync.replicas %d or max.message.bytes %d is negative", e.Replication, e.MinInSync, e.MaxMessageBytes)
	case e.Replication > 0 && e.MinInSync > e.Replication:
		return fmt.Errorf("min.insync.replicas %d is greater than the replication %d: nothing could be written", e.MinInSync, e.Replication)
	}
	for _, a := range e.Aggregates {
		if name := e.Topics.Events(a); !validTopic(name) || len(name) > MaxTopicName {
			return fmt.Errorf("aggregate %q makes no topic name: %q", a, name)
		}
	}
	return e.Topics.Check()
}

// EnsureTopics makes the topics that are missing, checks those that exist, and
// records the installation when it is new. It changes no existing topic. All
// problems are returned at once, each naming topic and setting, in an error that
// wraps [ErrTopics]; other errors are those of reaching Kafka.
//
// A topic that the installation had and that is missing is not made again: it
// held the truth, and an empty one would look like none.
func (a *Admin) EnsureTopics(ctx context.Context, e Ensure) (Installation, error) {
	return a.ensure(ctx, e, true)
}

// VerifyTopics is EnsureTopics without making or recording anything.
func (a *Admin) VerifyTopics(ctx context.Context, e Ensure) (Installation, error) {
	return a.ensure(ctx, e, false)
}

func (a *Admin) ensure(ctx context.Context, e Ensure, create bool) (Installation, error) {
	if err := e.check(); err != nil {
		return Installation{}, fmt.Errorf("%w: %w", ErrTopics, err)
	}
	has, err := a.describe(ctx, names(e.Topics.plan(1, e.Aggregates)))
	if err != nil {
		return Installation{}, err
	}
	var recorded Installation
	installed := false
	if _, ok := has[e.Topics.Schemas()]; ok {
		if recorded, installed, err = a.Installation(ctx, e.Topics); err != nil {
			return Installation{}, err
		}
	}
	want := Installation{Partitions: e.Partitions, Layout: e.Topics.layout(), Epoch: 1, Name: e.Name}
	if want.Partitions == 0 {
		want.Partitions = DefaultPartitions
	}
	if installed {
		if err := recorded.matches(e); err != nil {
			return Installation{}, fmt.Errorf("%w: %w", ErrTopics, err)
		}
		want = recorded
	}
	unnamed := installed && recorded.Name == "" && e.Name != ""
	if unnamed {
		want.Name = e.Name
	}
	plan := e.Topics.plan(want.Partitions, e.Aggregates)
	var problems []error
	for _, p := range plan {
		if _, ok := has[p.name]; ok {
			continue
		}
		if perAggregate, events := e.Topics.IsEvents(p.name); installed && !(events && perAggregate != "") {
			problems = append(problems, fmt.Errorf("topic %q is missing, but the installation recorded in %q had it: restore it; it is not made again, since an empty one would look as if nothing had happened", p.name, e.Topics.Schemas()))
		} else if !create {
			problems = append(problems, fmt.Errorf("topic %q is missing", p.name))
		}
	}
	if len(problems) == 0 && create {
		if err := a.create(ctx, plan, has, e); err != nil {
			return Installation{}, err
		}
		if has, err = a.await(ctx, names(plan)); err != nil {
			return Installation{}, err
		}
	}
	wrong, err := a.verify(ctx, plan, has, e)
	if err != nil {
		return Installation{}, err
	}
	if problems = append(problems, wrong...); len(problems) > 0 {
		return Installation{}, fmt.Errorf("%w: %w", ErrTopics, errors.Join(problems...))
	}
	if (!installed || unnamed) && create {
		if want, err = a.record(ctx, e.Topics, want); err != nil {
			return Installation{}, err
		}
		if err := want.matches(e); err != nil {
			return Installation{}, fmt.Errorf("%w: another process installed at the same time: %w", ErrTopics, err)
		}
	}
	return want, nil
}

func names(plan []topicPlan) (all []string) {
	for _, p := range plan {
		all = append(all, p.name)
	}
	return all
}

// create makes the topics that are missing.
func (a *Admin) create(ctx context.Context, plan []topicPlan, has map[string]described, e Ensure) error {
	var specs []ck.TopicSpecification
	for _, p := range plan {
		if _, ok := has[p.name]; !ok {
			replication := e.Replication
			if replication == 0 {
				replication = -1 // the broker's default (KIP-464)
			}
			specs = append(specs, ck.TopicSpecification{Topic: p.name, NumPartitions: int(p.partitions), ReplicationFactor: replication, Config: p.configs(e)})
		}
	}
	if len(specs) == 0 {
		return nil
	}
	results, err := a.reader.admin.CreateTopics(ctx, specs, ck.SetAdminRequestTimeout(adminTimeout), ck.SetAdminOperationTimeout(adminTimeout))
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	var problems []error
	for _, r := range results {
		switch r.Error.Code() {
		case ck.ErrNoError:
			a.log.Info("created topic", "topic", r.Topic)
		case ck.ErrTopicAlreadyExists: // another process was faster; it is checked like any other
		default:
			problems = append(problems, fmt.Errorf("create topic %q: %w", r.Topic, r.Error))
		}
	}
	return errors.Join(problems...)
}

// await waits until the cluster knows of the topics: a broker answers that a
// topic is made before all others have heard of it.
func (a *Admin) await(ctx context.Context, topics []string) (map[string]described, error) {
	for {
		has, err := a.describe(ctx, topics)
		if err != nil || len(has) == len(topics) {
			return has, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			missing := slices.DeleteFunc(slices.Clone(topics), func(t string) bool { _, ok := has[t]; return ok })
			return nil, fmt.Errorf("wait until the topics %q are known to the cluster: %w", missing, context.Cause(ctx))
		}
	}
}

// verify says what is wrong with the topics that exist.
func (a *Admin) verify(ctx context.Context, plan []topicPlan, has map[string]described, e Ensure) (problems []error, err error) {
	existing := slices.Sorted(maps.Keys(has))
	if len(existing) == 0 {
		return nil, nil
	}
	configs, err := a.configs(ctx, existing)
	if err != nil {
		return nil, err
	}
	for _, p := range plan {
		d, ok := has[p.name]
		if !ok {
			continue
		}
		if d.partitions != p.partitions {
			problems = append(problems, fmt.Errorf("topic %q has %d partitions, not %d: an aggregate's records must stand in the same partition of all topics, and its count can never change", p.name, d.partitions, p.partitions))
		}
		if d.replicas < e.Replication {
			problems = append(problems, fmt.Errorf("topic %q: a partition has %d replicas, fewer than the replication %d", p.name, d.replicas, e.Replication))
		}
		problems = append(problems, p.verify(configs[p.name], e)...)
	}
	return problems, nil
}
