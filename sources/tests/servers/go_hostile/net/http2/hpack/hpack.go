// Package hpack has the names and the layout of the one that programs have, and holds whatever it is told to hold.
package hpack

// Table is what a decoder or encoder begins with; numbers are addresses that need lead nowhere.
type Table struct {
	Entries, Count, Room   uint64
	Dropped                uint64
	ByName, ByNameValue    uint64
	Bytes, Max, Allowed, _ uint32
	_                      [2]uint64
	// An interface, in an encoder.
	Kind, Buffer uint64
}

// Entry is a field of the table.
type Entry struct {
	Name, NameBytes   uint64
	Value, ValueBytes uint64
	IsSensitive       uint64
}

type (
	Decoder struct{ Table }
	Encoder struct{ Table }
)

var calls int

// Write is where the probe of blocks is.
//
//go:noinline
func (d *Decoder) Write(block []byte) (int, error) {
	calls += len(block)
	return len(block), nil
}

// WriteField is where the probe of fields is.
//
//go:noinline
func (e *Encoder) WriteField(field string) error {
	calls += len(field)
	return nil
}
