// Package generate makes Go of an aggregate's schema file: the records by
// gogen-avro, and beside them the interfaces that an author implements.
package generate
