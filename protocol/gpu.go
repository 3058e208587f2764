package protocol

import (
	"strconv"
	"strings"
)

// GPU is one graphics card as a pilot found it.
type GPU struct {
	// ID has one of the forms of GPUVariables.
	ID         string   `cbor:"1,keyasint" json:"id" doc:"names the card on its node; says by its form whose it is"`
	Model      string   `cbor:"2,keyasint,omitempty" json:"model,omitempty"`
	Memory     ByteSize `cbor:"3,keyasint,omitempty" json:"memory,omitempty"`
	Capability int      `cbor:"4,keyasint,omitempty" json:"capability,omitempty" doc:"compute capability times ten"`
	// Tested says that the card passed the pilot's self-test; GPU tasks go only to such cards.
	Tested bool `cbor:"5,keyasint,omitempty" json:"tested,omitempty"`
}

// Beginnings of the IDs of cards that no tool of a vendor names by itself.
const (
	// AMDIndex comes before the number that ROCm's runtime gives a card without a UUID.
	AMDIndex = "AMD-"
	// OpenCLIndex comes before platform and device, OCL-0.1, of a card that only
	// OpenCL knows.
	OpenCLIndex = "OCL-"
)

// IsAMD tells whether an ID is of a card of AMD: AMD-0, or GPU- and the 16
// hexadecimal digits of ROCm's runtime. NVIDIA's UUIDs are longer.
func IsAMD(id string) bool {
	if strings.HasPrefix(id, AMDIndex) {
		return true
	}
	digits, ok := strings.CutPrefix(id, "GPU-")
	return ok && len(digits) == 16 && strings.Trim(digits, "0123456789abcdefABCDEF") == ""
}

// GPUVariables returns what makes a program see the cards named and no others, as
// NAME=VALUE. An ID is one of
//
//	0, GPU-4b2c…, MIG-c738…    NVIDIA, as CUDA_VISIBLE_DEVICES takes it
//	AMD-0, GPU-a1b2c3d4e5f60708  AMD, as ROCR_VISIBLE_DEVICES takes it, but for AMD-
//	OCL-0.1                      platform and device as OpenCL counts them
//
// ROCm's runtime filters first and then counts from 0 what it left, which is what
// HIP_VISIBLE_DEVICES and GPU_DEVICE_ORDINAL count. Without cards of AMD they stay
// unset: empty, they would restrict nothing. FLOE_GPUS has all IDs.
func GPUVariables(ids []string) []string {
	var cuda, rocm, order []string
	for _, id := range ids {
		switch {
		case IsAMD(id):
			order = append(order, strconv.Itoa(len(order)))
			rocm = append(rocm, strings.TrimPrefix(id, AMDIndex))
		case !strings.HasPrefix(id, OpenCLIndex):
			cuda = append(cuda, id)
		}
	}
	variables := []string{
		"FLOE_GPUS=" + strings.Join(ids, ","),
		"CUDA_VISIBLE_DEVICES=" + strings.Join(cuda, ","),
		"ROCR_VISIBLE_DEVICES=" + strings.Join(rocm, ","),
	}
	if len(order) > 0 {
		list := strings.Join(order, ",")
		variables = append(variables, "HIP_VISIBLE_DEVICES="+list, "GPU_DEVICE_ORDINAL="+list)
	}
	return variables
}
