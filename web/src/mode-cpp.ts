import { cppLanguage } from '@codemirror/lang-cpp'
import { completes } from './completion'

const c = `
  auto break case char const continue default do double else enum extern float for goto if inline int long
  register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
  define include ifdef ifndef endif bool true false NULL size_t int8_t int16_t int32_t int64_t uint8_t uint16_t
  uint32_t uint64_t FILE printf scanf puts putchar getchar fgets fputs fprintf sprintf snprintf sscanf malloc
  calloc realloc free memcpy memset memmove strlen strcmp strncmp strcpy strncpy strcat strchr strstr strtol
  atoi qsort exit stdin stdout stderr main
`

const cpp = `
  alignas alignof auto bool break case catch char class concept const consteval constexpr const_cast continue
  co_await co_return co_yield decltype default delete do double dynamic_cast else enum explicit export extern
  false final float for friend goto if include inline int long mutable namespace new noexcept nullptr operator
  override private protected public reinterpret_cast requires return short signed sizeof static static_assert
  static_cast struct switch template this throw true try typedef typeid typename union unsigned using virtual
  void volatile while std string vector map unordered_map set unordered_set pair tuple array deque queue
  priority_queue stack optional variant string_view span unique_ptr shared_ptr make_unique make_shared cout cin
  cerr endl getline sort reverse find lower_bound upper_bound accumulate min max swap move push_back
  emplace_back begin end size empty first second iostream algorithm numeric main
`

export const mode = (plus: boolean) => [cppLanguage, completes(cppLanguage, plus ? cpp : c)]
