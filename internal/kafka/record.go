package kafka

import "time"

// Record is one record of a topic, as it is written and as it is read. It is
// the same whichever client library carried it.
type Record struct {
	Topic     string
	Partition int32

	// Offset is the record's place in its partition. Writers ignore it.
	Offset int64

	// Key decides the partition for those who choose one by key; a nil Key is
	// no key, a nil Value is a tombstone.
	Key, Value []byte

	Headers []Header

	// Time is the record's timestamp, in milliseconds on the wire. A writer
	// takes the zero Time as now.
	Time time.Time

	// Control says that it is no record but the end of a transaction, which takes
	// an offset. Only a group that reads other topics is given those
	// ([GroupConfig.Also]): its positions are to move past them.
	Control bool
}

// Header is one header of a record. A key may occur more than once.
type Header struct {
	Key   string
	Value []byte
}

// Header gives the first value of the header named key, or nil when the record
// has none.
func (r *Record) Header(key string) []byte {
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			return r.Headers[i].Value
		}
	}
	return nil
}
