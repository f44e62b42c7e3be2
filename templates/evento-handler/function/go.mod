module handler/function

go 1.26.0

require (
	github.com/actgardner/gogen-avro/v10 v10.2.1
	github.com/evento-oss/evento v0.0.0
)

replace github.com/evento-oss/evento => ../template/evento-handler/evento
