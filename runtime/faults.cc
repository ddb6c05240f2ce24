#include "runtime/faults.h"

#include <fmt/format.h>
#include <ucontext.h>

#include <cstring>

#include "runtime/panic.h"
#include "runtime/runtime.h"
#include "runtime/source_rooms.h"
#include "runtime/symbols.h"

extern "C" {
extern const char __executable_start, etext;  // by the linker
// Stands between a faulting instruction and raise(): a frame that the unwinder takes for a signal's, since it lies behind
// an instruction that was not a call. On top of its stack lie the address of the instruction and the stack pointer there.
void gearbox_fault_landing();
void gearbox_raise_fault(const void* record);
}

asm(R"(
  .text
  .balign 16
  .type gearbox_fault_landing, @function
gearbox_fault_landing:
  .cfi_startproc
  .cfi_signal_frame
  .cfi_escape 0x0f, 0x03, 0x77, 0x08, 0x06  # DW_CFA_def_cfa_expression: the word at rsp + 8
  .cfi_escape 0x10, 0x10, 0x02, 0x77, 0x00  # DW_CFA_expression: the return address lies at rsp
  movq %rsp, %rdi
  call gearbox_raise_fault
  ud2
  .cfi_endproc
  .size gearbox_fault_landing, . - gearbox_fault_landing
)");

namespace gearbox {
namespace {

constexpr std::uintptr_t kNilBytes = 4096;
constexpr std::size_t kRedZoneBytes = 128;
constexpr std::size_t kRaiseBytes = 8192;  // of stack: the unwinder's, a copy of the panic

// What lies on the goroutine's stack below the faulting function's red zone.
struct Record {
  std::uintptr_t pc, sp;  // read by the unwinder, see gearbox_fault_landing
  Fault fault;
  FrameList frames;
};

// The operand of `div r/m` and `idiv r/m`, from the instruction's bytes. False for what is not understood.
bool divisor_is_zero(const unsigned char* at, const greg_t* registers, bool& is_zero) {
  static constexpr int kNames[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                     REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  bool is_word = false;
  unsigned rex = 0;
  if (*at == 0x66) is_word = true, ++at;
  if ((*at & 0xf0) == 0x40) rex = *at++;
  if (*at != 0xf6 && *at != 0xf7) return false;
  const unsigned bits = *at++ == 0xf6 ? 8 : (rex & 8) != 0 ? 64 : is_word ? 16 : 32;
  const unsigned mode = *at >> 6, operation = *at >> 3 & 7, base = (*at & 7) | (rex & 1) << 3;
  if (operation < 6) return false;
  const auto value_of = [&](unsigned number) { return static_cast<std::uint64_t>(registers[kNames[number]]); };
  const std::uint64_t mask = bits == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1;
  std::uint64_t divisor = 0;
  if (mode == 3) {
    const bool is_high_byte = bits == 8 && rex == 0 && base >= 4;  // ah, ch, dh, bh
    divisor = is_high_byte ? value_of(base - 4) >> 8 : value_of(base);
  } else {
    ++at;
    std::uint64_t address = 0;
    std::int32_t offset = 0;
    bool has_wide_offset = mode == 2;
    if ((base & 7) == 4) {  // a SIB byte
      const unsigned scale = *at >> 6, index = (*at >> 3 & 7) | (rex & 2) << 2, from = (*at & 7) | (rex & 1) << 3;
      ++at;
      if (index != 4) address += value_of(index) << scale;
      if ((from & 7) == 5 && mode == 0)
        has_wide_offset = true;
      else
        address += value_of(from);
    } else if ((base & 7) == 5 && mode == 0) {  // relative to the next instruction
      address = reinterpret_cast<std::uint64_t>(at) + 4;
      has_wide_offset = true;
    } else {
      address = value_of(base);
    }
    if (has_wide_offset)
      std::memcpy(&offset, at, 4);
    else if (mode == 1)
      offset = static_cast<signed char>(*at);  // NOLINT(bugprone-signed-char-misuse): the sign is meant
    std::memcpy(&divisor, reinterpret_cast<const void*>(address + static_cast<std::uint64_t>(std::int64_t{offset})),
                bits / 8);  // the processor has just read it
  }
  is_zero = (divisor & mask) == 0;
  return true;
}

std::uint64_t read_uleb(const unsigned char*& at) {
  std::uint64_t value = 0;
  for (unsigned shift = 0;; shift += 7) {
    const unsigned char byte = *at++;
    value |= std::uint64_t{byte & 0x7fu} << shift;
    if ((byte & 0x80) == 0) return value;
  }
}

// Whether the function's exception table has an entry for the instruction. What is not in the table calls
// std::terminate(). GCC's tables only: no encoding of the landing pads' base, offsets as ULEB128.
bool table_covers(const unsigned char* table, std::uintptr_t function_start, std::uintptr_t pc) {
  constexpr unsigned char kOmitted = 0xff, kUleb128 = 0x01;
  if (*table++ != kOmitted) return false;
  if (*table++ != kOmitted) read_uleb(table);  // where the types are
  if (*table++ != kUleb128) return false;
  const std::uint64_t bytes = read_uleb(table);
  const std::uintptr_t offset = pc - function_start;
  for (const unsigned char* const end = table + bytes; table < end;) {
    const std::uint64_t start = read_uleb(table), length = read_uleb(table);
    read_uleb(table);  // the landing pad
    read_uleb(table);  // the action
    if (offset < start) return false;
    if (offset < start + length) return true;
  }
  return false;
}

bool is_programs_own(std::uintptr_t pc) {
  bool programs_own = false;
  std::uintptr_t entry = 0;
  find_places(
      pc, entry,
      [](void* found, const Place& place) {
        if (owner_of(place) == Owner::kProgram) *static_cast<bool*>(found) = true;
      },
      &programs_own);
  return programs_own;
}

const char* signal_words(int signal) {
  switch (signal) {
    case SIGSEGV:
      return "SIGSEGV: segmentation violation";
    case SIGBUS:
      return "SIGBUS: bus error";
    case SIGFPE:
      return "SIGFPE: floating-point exception";
    default:
      return "an unexpected signal";
  }
}

}  // namespace

Fault fault_of(const siginfo_t& info, const void* ucontext) {
  const auto* registers = static_cast<const ucontext_t*>(ucontext)->uc_mcontext.gregs;
  Fault fault;
  fault.signal = info.si_signo;
  fault.code = info.si_code;
  fault.pc = static_cast<std::uintptr_t>(registers[REG_RIP]);
  if (info.si_code <= 0) return fault;  // sent by somebody, not made by an instruction
  fault.address = reinterpret_cast<std::uintptr_t>(info.si_addr);
  if (info.si_signo == SIGSEGV && (info.si_code == SEGV_MAPERR || info.si_code == SEGV_ACCERR) &&
      fault.address < kNilBytes) {
    fault.is_nil = true;
    fault.runtime_error = "invalid memory address or nil pointer dereference";
  } else if (info.si_signo == SIGFPE && info.si_code == FPE_INTDIV) {
    bool is_zero = true;
    divisor_is_zero(reinterpret_cast<const unsigned char*>(fault.pc), registers, is_zero);
    fault.runtime_error = is_zero ? "integer divide by zero" : "integer overflow";
  }
  return fault;
}

std::size_t describe_signal(const Fault& fault, char* out, std::size_t bytes) {
  const auto written =
      fmt::format_to_n(out, bytes, "[signal {} code={:#x} addr={:#x} pc={:#x}]\n", signal_words(fault.signal),
                       static_cast<unsigned>(fault.code), fault.address, fault.pc);
  return written.size < bytes ? written.size : bytes;
}

bool make_panic_of(const Fault& fault, const Interrupted& where, void* ucontext) {
  const Goroutine* g = current_goroutine();
  if (fault.runtime_error == nullptr || g == nullptr || g->system || current_inside() != 0) return false;
  auto* registers = static_cast<ucontext_t*>(ucontext)->uc_mcontext.gregs;
  const auto sp = static_cast<std::uintptr_t>(registers[REG_RSP]);
  if (sp > g->stack_hi || sp < g->stack_lo + kRedZoneBytes + sizeof(Record) + kRaiseBytes) return false;
  if (fault.pc < reinterpret_cast<std::uintptr_t>(&__executable_start) ||
      fault.pc >= reinterpret_cast<std::uintptr_t>(&etext))
    return false;
  if (where.function_start == 0) return false;
  if (where.exception_table != nullptr && !table_covers(where.exception_table, where.function_start, fault.pc))
    return false;
  if (!is_programs_own(fault.pc)) return false;
  const std::uintptr_t at = (sp - kRedZoneBytes - sizeof(Record)) & ~std::uintptr_t{15};
  auto* record = new (reinterpret_cast<void*>(at)) Record{fault.pc, sp, fault, where.frames};
  constexpr greg_t kDirectionFlag = 0x400;
  registers[REG_RSP] = reinterpret_cast<greg_t>(record);
  registers[REG_RIP] = reinterpret_cast<greg_t>(&gearbox_fault_landing);
  registers[REG_EFL] &= ~kDirectionFlag;
  return true;
}

}  // namespace gearbox

// On the goroutine's stack, as if called by the faulting instruction.
void gearbox_raise_fault(const void* on_stack) {
  using namespace gearbox;
  const auto& record = *static_cast<const Record*>(on_stack);
  std::vector<void*> trace;
  trace.reserve(record.frames.count);
  for (std::size_t i = 0; i < record.frames.count; ++i)
    trace.push_back(reinterpret_cast<void*>(record.frames.addresses[i]));
  char signal[256];
  const std::size_t bytes = record.fault.is_nil ? describe_signal(record.fault, signal, sizeof(signal)) : 0;
  raise_fault(std::string("runtime error: ") + record.fault.runtime_error, std::string(signal, bytes),
              std::move(trace));
}
