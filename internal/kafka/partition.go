package kafka

// Partition returns the partition of a key among so many partitions, as Java's
// default partitioner and librdkafka's murmur2_random compute it (for a key
// that is not null). Producers of other programs that keep Kafka's default of
// librdkafka, CRC32, put keys elsewhere: a record found in the wrong partition
// is forwarded. It panics when partitions < 1.
func Partition(key string, partitions int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % partitions
}

// murmur2 is Austin Appleby's MurmurHash2 with the seed of Kafka's Java client
// (org.apache.kafka.common.utils.Utils.murmur2).
func murmur2(data string) uint32 {
	const m = 0x5bd1e995
	h := 0x9747b28c ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16 | uint32(data[3])<<24
		k *= m
		k ^= k >> 24
		k *= m
		h *= m
		h ^= k
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(data[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}
