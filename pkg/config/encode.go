package config

import "encoding/json"

// exported is a Config without its methods, which encoding/json encodes by its fields.
type exported Config

// encoded is a Config as JSON, with all of its fields.
type encoded struct {
	*exported
	Places   map[string]string
	Borrowed string
}

// MarshalJSON encodes the configuration for another process of the same program.
func (c *Config) MarshalJSON() ([]byte, error) {
	return json.Marshal(encoded{(*exported)(c), c.places, c.borrowed})
}

// UnmarshalJSON decodes what MarshalJSON encodes.
func (c *Config) UnmarshalJSON(text []byte) error {
	e := encoded{exported: (*exported)(c)}
	if err := json.Unmarshal(text, &e); err != nil {
		return err
	}
	c.places, c.borrowed = e.Places, e.Borrowed
	return nil
}
