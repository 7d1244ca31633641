import { HighlightStyle, syntaxHighlighting } from '@codemirror/language'
import { EditorView } from '@codemirror/view'
import { tags as t } from '@lezer/highlight'

// Colours are variables of app.css, so that light and dark follow the system in one place.
const highlight = HighlightStyle.define([
  { tag: [t.comment, t.meta], color: 'var(--syn-comment)' },
  { tag: [t.keyword, t.operatorKeyword, t.modifier, t.self], color: 'var(--syn-keyword)' },
  { tag: [t.string, t.special(t.string), t.regexp, t.character], color: 'var(--syn-string)' },
  { tag: [t.escape], color: 'var(--syn-escape)' },
  { tag: [t.number, t.bool, t.null, t.atom], color: 'var(--syn-number)' },
  {
    tag: [t.function(t.variableName), t.function(t.propertyName), t.function(t.definition(t.variableName)), t.macroName],
    color: 'var(--syn-function)',
  },
  { tag: [t.typeName, t.className, t.namespace, t.standard(t.variableName)], color: 'var(--syn-type)' },
  { tag: [t.processingInstruction, t.annotation], color: 'var(--syn-meta)' },
  { tag: t.invalid, color: 'var(--bad)' },
])

const view = EditorView.theme({
  '&': { height: '100%', color: 'var(--text)', backgroundColor: 'var(--surface)' },
  '&.cm-focused': { outline: 'none' },
  '.cm-scroller': { fontFamily: 'var(--mono)', fontSize: 'var(--code-size)', lineHeight: '1.55' },
  '.cm-content': { padding: '10px 0', caretColor: 'var(--accent)' },
  '.cm-line': { padding: '0 14px 0 6px' },
  '.cm-cursor': { borderLeftColor: 'var(--accent)', borderLeftWidth: '2px' },
  '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground, ::selection': {
    backgroundColor: 'var(--selection)',
  },
  '.cm-gutters': { backgroundColor: 'var(--surface)', color: 'var(--faint)', border: 'none' },
  '.cm-lineNumbers .cm-gutterElement': { padding: '0 8px 0 14px', minWidth: '34px' },
  '&.cm-focused .cm-activeLine': { backgroundColor: 'var(--active-line)' },
  '.cm-activeLine, .cm-activeLineGutter': { backgroundColor: 'transparent' },
  '&.cm-focused .cm-activeLineGutter': { color: 'var(--text)' },
  '&.cm-focused .cm-matchingBracket': { backgroundColor: 'var(--selection)', outline: '1px solid var(--border-strong)' },
  '.cm-searchMatch': { backgroundColor: 'var(--match)' },
  '.cm-panels': { backgroundColor: 'var(--raised)', color: 'var(--text)', borderColor: 'var(--border)' },
  '.cm-panels.cm-panels-bottom': { borderTop: '1px solid var(--border)' },
  // Its own panels, in the page's measures.
  '.cm-panel:is(.cm-search, .cm-dialog)': { padding: '5px 48px 5px 12px', fontSize: '0.8125rem' },
  '.cm-panel:is(.cm-search, .cm-dialog) :is(.cm-textfield, .cm-button, label)': { margin: '3px 6px 3px 0', fontSize: 'inherit', minHeight: 'var(--touch)', verticalAlign: 'middle' },
  '.cm-panel:is(.cm-search, .cm-dialog) .cm-textfield': { padding: '0 8px', width: '180px', fontSize: 'var(--field-size)' },
  '.cm-panel:is(.cm-search, .cm-dialog) .cm-button': { padding: '0 10px' },
  '.cm-panel.cm-search label': { display: 'inline-flex', alignItems: 'center', gap: '4px' },
  '.cm-panel:is(.cm-search, .cm-dialog) :is([name=close], .cm-dialog-close)': { top: '6px', right: '6px', width: 'var(--touch)', minHeight: 'var(--touch)', fontSize: '1.1rem' },
  '.cm-textfield': { backgroundColor: 'var(--surface)', border: '1px solid var(--border-strong)', borderRadius: '4px' },
  '.cm-button': { backgroundImage: 'none', backgroundColor: 'var(--surface)', border: '1px solid var(--border-strong)', borderRadius: '4px' },
})

export const theme = [view, syntaxHighlighting(highlight)]
