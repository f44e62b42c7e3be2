package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// InstallationKey is the key of the installation's record in [Topics.Schemas].
// The keys of schemas hold a ':', so it cannot be one of them.
const InstallationKey = "installation"

// Installation is what an installation decided once and for all. It is recorded
// as JSON in the schemas topic.
type Installation struct {
	Partitions int32  `json:"partitions"` // of all topics but the schemas
	Layout     Layout `json:"layout"`
	Name       string `json:"name,omitempty"` // "" was recorded before names were; the next one who gives a name records it

	// Epoch, from 1, is a part of the names of everything that is kept outside
	// of Kafka. Raising it makes all of that void at once, for example after
	// Kafka was restored from a copy.
	Epoch uint64 `json:"epoch"`
}

// matches says whether a configuration fits what is recorded.
func (i Installation) matches(e Ensure) error {
	if e.Partitions != 0 && e.Partitions != i.Partitions {
		return fmt.Errorf("partitions is %d, but the installation recorded %d in %q: the count cannot be changed, because every key would move to another partition", e.Partitions, i.Partitions, e.Topics.Schemas())
	}
	if l := e.Topics.layout(); l != i.Layout {
		return fmt.Errorf("layout is %q, but the installation recorded %q in %q: it cannot be changed", l, i.Layout, e.Topics.Schemas())
	}
	if e.Name != "" && i.Name != "" && e.Name != i.Name {
		return fmt.Errorf("installation is %q, but %q is recorded in %q: two installations on one Kafka need topic prefixes of their own, and a name cannot be changed, because dispatchers' commands would be sent again as another source's", e.Name, i.Name, e.Topics.Schemas())
	}
	return nil
}

// ParseInstallation reads the value of the record with [InstallationKey].
func ParseInstallation(value []byte) (Installation, error) {
	var i Installation
	if err := json.Unmarshal(value, &i); err != nil {
		return Installation{}, fmt.Errorf("record %q: %w", InstallationKey, err)
	}
	if i.Partitions < 1 || i.Epoch < 1 || i.Layout != Single && i.Layout != PerAggregate {
		return Installation{}, fmt.Errorf("record %q: partitions %d, layout %q or epoch %d is not possible", InstallationKey, i.Partitions, i.Layout, i.Epoch)
	}
	return i, nil
}

// Installation reads the installation's record. found is false when there is
// none yet; a topic that does not exist is an error.
func (a *Admin) Installation(ctx context.Context, topics Topics) (i Installation, found bool, err error) {
	var bad error
	low, _, high, err := a.reader.Watermarks(ctx, topics.Schemas(), 0)
	if err != nil {
		return Installation{}, false, err
	}
	err = a.reader.Scan(ctx, topics.Schemas(), 0, low, high, ReadCommitted, func(r Record) error {
		if string(r.Key) == InstallationKey && r.Value != nil {
			i, bad = ParseInstallation(r.Value)
			found = true
		}
		return nil
	})
	if err := errors.Join(err, bad); err != nil {
		return Installation{}, false, fmt.Errorf("read the installation's record in %q: %w", topics.Schemas(), err)
	}
	return i, found, nil
}

// RaiseEpoch records the next epoch and returns the installation with it.
func (a *Admin) RaiseEpoch(ctx context.Context, topics Topics) (Installation, error) {
	i, found, err := a.Installation(ctx, topics)
	if err != nil {
		return Installation{}, err
	}
	if !found {
		return Installation{}, fmt.Errorf("%w: no installation is recorded in %q", ErrTopics, topics.Schemas())
	}
	i.Epoch++
	return a.record(ctx, topics, i)
}

// record writes the installation's record, and returns what then stands there:
// another process may have written too, and the last one counts for all.
func (a *Admin) record(ctx context.Context, topics Topics, i Installation) (Installation, error) {
	value, err := json.Marshal(i)
	if err != nil {
		return Installation{}, err
	}
	p, err := NewProducer(a.settings, a.log)
	if err != nil {
		return Installation{}, err
	}
	_, err = p.Produce(ctx, Record{Topic: topics.Schemas(), Partition: 0, Key: []byte(InstallationKey), Value: value})
	if err := errors.Join(err, p.Close(ctx)); err != nil {
		return Installation{}, fmt.Errorf("record the installation: %w", err)
	}
	i, found, err := a.Installation(ctx, topics)
	if err == nil && !found {
		err = fmt.Errorf("record the installation: it is written to %q, and cannot be read there", topics.Schemas())
	}
	return i, err
}
