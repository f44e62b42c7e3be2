module handler

go 1.26.0

require github.com/evento-oss/evento v0.0.0
