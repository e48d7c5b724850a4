package metrics

// Gauge is a value that is read when the metrics are: Registry.Text's update sets it.
type Gauge struct {
	vector
	values []float64
	known  []bool // by series; the others are left out
}

// Gauge adds a gauge, which has no value yet.
func (r *Registry) Gauge(name, help string, labels ...Label) *Gauge {
	return r.gauge(name, help, "gauge", labels)
}

// Total adds a counter that somebody else counts, so that it is set like a gauge.
func (r *Registry) Total(name, help string, labels ...Label) *Gauge {
	return r.gauge(name, help, "counter", labels)
}

func (r *Registry) gauge(name, help, kind string, labels []Label) *Gauge {
	g := &Gauge{vector: newVector(name, help, kind, labels)}
	g.values, g.known = make([]float64, len(g.series)), make([]bool, len(g.series))
	r.add(g)
	return g
}

// Set sets the gauge for these values, one for each label. What the labels do not have
// is ignored.
func (g *Gauge) Set(value float64, values ...string) {
	if i, ok := g.index(values); ok {
		g.values[i], g.known[i] = value, true
	}
}

// SetBool sets the gauge to 1 if value is true, else to 0.
func (g *Gauge) SetBool(value bool, values ...string) {
	n := 0.0
	if value {
		n = 1
	}
	g.Set(n, values...)
}

// Add adds to the gauge; one without a value begins at 0.
func (g *Gauge) Add(n float64, values ...string) {
	if i, ok := g.index(values); ok {
		g.values[i], g.known[i] = g.values[i]+n, true
	}
}

// Fill sets all series.
func (g *Gauge) Fill(value float64) {
	for i := range g.values {
		g.values[i], g.known[i] = value, true
	}
}

// Clear leaves all series out.
func (g *Gauge) Clear() {
	clear(g.values)
	clear(g.known)
}

func (g *Gauge) appendTo(text []byte) []byte {
	text = g.appendHead(text)
	for i, labels := range g.series {
		if g.known[i] {
			text = appendSample(text, g.name, labels, g.values[i])
		}
	}
	return text
}
