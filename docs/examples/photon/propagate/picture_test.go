package main

import (
	"fmt"
	"math"
	"strings"
)

// The picture of the example's page: what processor and card find, in two panels.
const pictureHead = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 400" width="900" height="400" role="img" aria-labelledby="t d" font-family="system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif" font-size="13">
  <title id="t">The same light on a processor and on a card</title>
  <desc id="d">Hits by depth and by time of arrival, found with different seeds by the Go program in double precision and by the OpenCL kernel in single precision. The two agree within their statistical errors.</desc>
  <style>
    .paper { fill: #ffffff } .ink { fill: #1c2530 } .soft { fill: #55636f; font-size: 12px } .head { font-weight: 600; font-size: 14px }
    .axis { stroke: #8794a0; stroke-width: 1; fill: none } .grid { stroke: #e3e8ec; stroke-width: 1 }
    .cpu { stroke: #2f6fb2; stroke-width: 1.8; fill: none } .card { stroke: #b3541e; stroke-width: 1.3 } .dot { fill: #b3541e }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #0f151b } .ink { fill: #e6edf3 } .soft { fill: #a3b1bd }
      .axis { stroke: #71808d } .grid { stroke: #232e38 }
      .cpu { stroke: #6fb1f0 } .card { stroke: #f0a06c } .dot { fill: #f0a06c }
    }
  </style>
  <rect class="paper" width="900" height="400" rx="8"/>
`

// A panel draws two histograms of equal cells, whose edges are marked in steps.
type panel struct {
	title, unit string
	left        float64
	low, high   float64
	mark        float64
	log         bool
	cpu, card   []float64
}

func draw(cpu, card sample) string {
	depth := panel{title: "Hits by depth", unit: "depth of the sensor in m", left: 64, low: 1440, high: 2460, mark: 200}
	time := panel{title: "Hits by time of arrival", unit: "ns after the flash", left: 514, low: 0, high: 1200, mark: 200, log: true}
	for _, s := range []struct {
		sample
		depth, time *[]float64
	}{{cpu, &depth.cpu, &time.cpu}, {card, &depth.card, &time.card}} {
		*s.depth, *s.time = make([]float64, 30), make([]float64, 40)
		for _, h := range s.hits {
			(*s.depth)[h.Sensor/2]++
			if cell := int(h.Time / 30); h.Event > 0 && cell < 40 {
				(*s.time)[cell]++
			}
		}
	}
	var b strings.Builder
	b.WriteString(pictureHead)
	depth.draw(&b)
	time.draw(&b)
	fmt.Fprintf(&b, `  <path class="cpu" d="M64 380h26"/><text class="ink" x="98" y="384">processor, Go, double precision: %d hits</text>`+"\n", len(cpu.hits))
	fmt.Fprintf(&b, `  <path class="card" d="M500 372v16"/><circle class="dot" cx="500" cy="380" r="3"/><text class="ink" x="512" y="384">card, OpenCL, single precision, other seed: %d hits</text>`+"\n", len(card.hits))
	b.WriteString("</svg>\n")
	return b.String()
}

func (p *panel) draw(b *strings.Builder) {
	const top, bottom, width = 52.0, 310.0, 350.0
	most := 0.0
	for i := range p.cpu {
		most = math.Max(most, math.Max(p.cpu[i], p.card[i]+math.Sqrt(p.card[i])))
	}
	y := func(n float64) float64 { return bottom - n/most*(bottom-top) }
	marks := []float64{0}
	if p.log {
		y = func(n float64) float64 { return bottom - math.Log10(math.Max(n, 1))/math.Log10(most)*(bottom-top) }
		marks = nil
		for n := 1.0; n <= most; n *= 10 {
			marks = append(marks, n)
		}
	} else {
		step := math.Pow(10, math.Floor(math.Log10(most))) / 2
		for n := step; n <= most; n += step {
			marks = append(marks, n)
		}
	}
	fmt.Fprintf(b, "  <text class=\"ink head\" x=\"%.0f\" y=\"32\">%s</text>\n", p.left, p.title)
	for _, n := range marks {
		fmt.Fprintf(b, "  <path class=\"grid\" d=\"M%.0f %.1fh%.0f\"/><text class=\"soft\" x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%.0f</text>\n", p.left, y(n), width, p.left-8, y(n)+4, n)
	}
	x := func(v float64) float64 { return p.left + (v-p.low)/(p.high-p.low)*width }
	fmt.Fprintf(b, "  <path class=\"axis\" d=\"M%.0f %.0fh%.0f\"/>\n", p.left, bottom, width)
	for v := math.Ceil(p.low/p.mark) * p.mark; v <= p.high; v += p.mark {
		fmt.Fprintf(b, "  <path class=\"axis\" d=\"M%.1f %.0fv5\"/><text class=\"soft\" x=\"%.1f\" y=\"%.0f\" text-anchor=\"middle\">%.0f</text>\n", x(v), bottom, x(v), bottom+19, v)
	}
	fmt.Fprintf(b, "  <text class=\"soft\" x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">%s</text>\n", p.left+width/2, bottom+38, p.unit)
	cell := width / float64(len(p.cpu))
	fmt.Fprintf(b, "  <path class=\"cpu\" d=\"M%.1f %.1f", p.left, bottom)
	for _, n := range p.cpu {
		fmt.Fprintf(b, "V%.1fh%.2f", y(n), cell)
	}
	fmt.Fprintf(b, "V%.1f\"/>\n", bottom)
	for i, n := range p.card {
		at, spread := p.left+cell*(float64(i)+0.5), math.Sqrt(n)
		fmt.Fprintf(b, "  <path class=\"card\" d=\"M%.1f %.1fV%.1f\"/><circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.2\"/>\n", at, y(n-spread), y(n+spread), at, y(n))
	}
}
