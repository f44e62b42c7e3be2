package kafka

type Ensure struct{ MinInSync, MaxMessageBytes int }
